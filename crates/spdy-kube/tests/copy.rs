//! Copies files to a server and from it, with the `tar` of this machine.

mod support;

use std::{io, net::SocketAddr, path::Path, process::Stdio};

use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use spdy_kube::{
    Exit, Options, Server, Status, Streams,
    client::{self, Client, ClientError, CopyError, Transport},
};
use spdy_session::{HeaderBlock, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncWriteExt, ReadBuf},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use self::support::{
    SOON, cut_after, exec_server, serve,
    wires::{Wires, in_memory, websocket_server},
};

/// A server that runs the requested command.
async fn server() -> SocketAddr {
    let exec = |mut request: axum::extract::Request| async move {
        let options = Options::from_query(request.uri().query().unwrap_or_default()).unwrap();
        Server::new().exec(&mut request, options.streams, |mut io| async move {
            let mut child = Command::new(&options.command[0])
                .args(&options.command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            io.copy(child.stdin.take(), child.stdout.take(), child.stderr.take())
                .await?;
            Ok(child.wait().await?.into())
        })
    };
    serve(axum::Router::new().route("/exec", axum::routing::any(exec))).await
}

fn ask(address: SocketAddr) -> impl Fn(Options) -> http::Request<()> {
    move |options| {
        let uri = format!("http://{address}/exec?{}", options.to_query());
        client::request(&uri.parse().unwrap())
    }
}

/// Returns a separate folder for each test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("spdy-kube-copy-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was() {
    let address = server().await;
    let content: Vec<u8> = (0..5 << 20).map(|at: u32| (at / 13) as u8).collect();
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let client = Client::new(|| async {
            io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?))
        })
        .transport(transport);
        let folder = Folder::new(&format!("{transport:?}"));
        let source = folder.0.join("-source");
        std::fs::create_dir_all(source.join("empty")).unwrap();
        std::fs::write(source.join("a name"), &content).unwrap();

        let mut archive = Vec::new();
        let mut told = Vec::new();
        let path = source.to_str().unwrap();
        let copied = client.copy_from(ask(address), path, &mut archive, |bytes| told.push(bytes));
        timeout(SOON, copied).await.expect("it ends").unwrap();
        assert_eq!(told.last(), Some(&(archive.len() as u64)));
        assert!(told.is_sorted() && told.len() > 10);

        let target = folder.0.join("target");
        std::fs::create_dir_all(&target).unwrap();
        let mut told = 0;
        let target = target.to_str().unwrap();
        let copied = client.copy_to(ask(address), target, &archive[..], |bytes| told = bytes);
        timeout(SOON, copied).await.expect("it ends").unwrap();
        assert_eq!(told, archive.len() as u64);
        let arrived = Path::new(target).join(path.trim_start_matches('/'));
        assert!(std::fs::read(arrived.join("a name")).unwrap() == content);
        assert!(arrived.join("empty").is_dir());
    }
}

#[tokio::test]
async fn a_tar_that_fails_is_no_success() {
    let address = server().await;
    let client =
        Client::new(|| async { io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?)) });
    let folder = Folder::new("fails");
    // More bytes than tar reads before it fails.
    let noise = vec![b'x'; 8 << 20];
    for folder in [folder.text(), "/no/such/folder"] {
        let copied = client.copy_to(ask(address), folder, &noise[..], |_| {});
        let failed = timeout(SOON, copied).await.expect("it ends").unwrap_err();
        let CopyError::Tar { status, said } = &failed else {
            panic!("{failed:?}");
        };
        assert!(matches!(status, Status::Exit(_)), "{status:?}");
        assert!(said.contains("tar"), "{said}");
    }
    let copied = client.copy_from(ask(address), "/no/such/file", tokio::io::sink(), |_| {});
    let failed = timeout(SOON, copied).await.expect("it ends").unwrap_err();
    assert!(failed.to_string().contains("/no/such/file"), "{failed}");
}

/// Servers exist that lose the end of an output, and report what the command says.
#[tokio::test]
async fn an_archive_without_its_end_is_no_success() {
    let folder = Folder::new("cut");
    std::fs::write(folder.0.join("zeros"), vec![0; 100_000]).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["cf", "-", "-C", folder.text(), "zeros"]);
    let archive = bytes::Bytes::from(tar.output().await.unwrap().stdout);
    let (way, cut) = tokio::sync::watch::channel(0);
    let address = exec_server(Server::new(), move |mut io| {
        let sent = archive.slice(..archive.len() - *cut.borrow());
        async move {
            io.stdout.as_mut().unwrap().send(sent).await?;
            Ok(Exit::SUCCESS)
        }
    });
    let address = address.await;
    let client =
        Client::new(|| async { io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?)) });
    for (lost, is_complete) in [
        (0, true),
        (51_200, false),
        (1, true),
        (1536, false),
        (102_400, false),
    ] {
        way.send_replace(lost);
        let copied = client.copy_from(ask(address), "zeros", tokio::io::sink(), |_| {});
        let copied = timeout(SOON, copied).await.expect("it ends");
        match is_complete {
            true => copied.unwrap(),
            false => assert!(
                matches!(copied, Err(CopyError::Incomplete)),
                "{lost}: {copied:?}"
            ),
        }
    }
}

/// A reader that returns some bytes and then fails.
struct Failing(u8);

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        self.0 -= 1;
        buffer.put_slice(&[0; 512]);
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_archive_that_fails_is_told() {
    let address = server().await;
    let client =
        Client::new(|| async { io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?)) });
    let folder = Folder::new("archive");
    let copied = client.copy_to(ask(address), folder.text(), Failing(3), |_| {});
    let failed = timeout(SOON, copied).await.expect("it ends");
    assert!(matches!(failed, Err(CopyError::Archive(_))), "{failed:?}");
    // A writer that accepts 1,000 bytes.
    let mut room = [0; 1000];
    let mut writer = io::Cursor::new(&mut room[..]);
    let copied = client.copy_from(ask(address), "/proc/self/status", &mut writer, |_| {});
    let failed = timeout(SOON, copied).await.expect("it ends");
    assert!(matches!(failed, Err(CopyError::Archive(_))), "{failed:?}");
}

#[tokio::test]
async fn a_container_without_tar_is_told() {
    let missing = || async { Err("exec: \"tar\": executable file not found in $PATH".into()) };
    let address = exec_server(Server::new(), move |_| missing()).await;
    let client =
        Client::new(|| async { io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?)) });
    // More bytes than fit into buffers on the way.
    let archive = vec![0; 8 << 20];
    let there = client.copy_to(ask(address), "/tmp", &archive[..], |_| {});
    let there = timeout(SOON, there).await.expect("it ends").unwrap_err();
    let back = client.copy_from(ask(address), "/tmp", tokio::io::sink(), |_| {});
    let back = timeout(SOON, back).await.expect("it ends").unwrap_err();
    for failed in [there, back] {
        assert!(matches!(failed, CopyError::Tar { .. }), "{failed:?}");
        assert!(
            failed.to_string().contains("not found in $PATH"),
            "{failed}"
        );
    }
}

/// The network ends in the middle of an archive, in either direction.
#[tokio::test]
async fn a_copy_that_is_cut_is_no_success() {
    let server = server().await;
    let folder = Folder::new("cut-network");
    let (file, target) = (folder.0.join("file"), folder.0.join("target"));
    std::fs::write(&file, vec![b'x'; 4 << 20]).unwrap();
    std::fs::create_dir(&target).unwrap();
    let tar = Command::new("tar")
        .args(["cf", "-", file.to_str().unwrap()])
        .output();
    let archive = tar.await.unwrap().stdout;
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let address = cut_after(server, 1 << 20, 1 << 20).await;
        let client = Client::new(|| async {
            io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?))
        })
        .transport(transport);
        let there = target.to_str().unwrap();
        let there = client.copy_to(ask(address), there, &archive[..], |_| {});
        let there = timeout(SOON, there).await.expect("it ends");
        let back = client.copy_from(
            ask(address),
            file.to_str().unwrap(),
            tokio::io::sink(),
            |_| {},
        );
        let back = timeout(SOON, back).await.expect("it ends");
        for copied in [there, back] {
            let lost = matches!(&copied, Err(CopyError::Client(ClientError::Stream(_))));
            assert!(lost, "{transport:?}: {copied:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_told() {
    let refuse = || async { Status::not_found("no such pod").into_response() };
    let address = serve(axum::Router::new().fallback(axum::routing::any(refuse))).await;
    let client =
        Client::new(|| async { io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?)) });
    let copied = client.copy_from(ask(address), "x", tokio::io::sink(), |_| {});
    let refused = copied.await.unwrap_err();
    assert!(
        matches!(&refused, CopyError::Client(ClientError::Connect(_))),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("no such pod"));
}

/// `tar` would wait for the end of its input, which v4 of WebSocket cannot express.
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_told_the_end_of_an_archive_gets_none() {
    let way = websocket_server(
        &Wires::default(),
        "v4.channel.k8s.io",
        |mut socket| async move { while let Some(Ok(_)) = socket.next().await {} },
    );
    let client = Client::new(way).transport(Transport::WebSocket);
    let ask = |options: Options| {
        let uri = format!("http://pod/exec?{}", options.to_query());
        client::request(&uri.parse().unwrap())
    };
    let copied = timeout(SOON, client.copy_to(ask, "/", &b"archive"[..], |_| {})).await;
    let refused = copied.expect("it ends").unwrap_err();
    assert!(
        matches!(refused, CopyError::Client(ClientError::Protocol)),
        "{refused:?}"
    );
}

/// Serves a command whose long outcome comes before its outputs.
async fn hasty(mut request: http::Request<Incoming>) -> http::Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = http::HeaderValue::from_static("v4.channel.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let transport = upgraded.await.unwrap();
        let (_session, mut incoming, driver) =
            spdy_session::server(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let mut streams = Vec::new();
        for _ in 0..3 {
            let stream = incoming.accept().await.unwrap();
            streams.push(stream.send_reply(HeaderBlock::new()).unwrap());
        }
        // The error stream is the first one.
        let outcome = Status::bad_request("x".repeat(900_000)).to_json();
        for (stream, bytes) in streams.iter_mut().zip([outcome.as_bytes(), &[7; 500_000]]) {
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        streams[2].shutdown().await.unwrap();
        _ = incoming.accept().await;
    });
    response
}

/// An outcome that is not read would stop the session.
#[tokio::test(start_paused = true)]
async fn a_long_outcome_that_comes_first_does_not_stop_the_outputs() {
    let client = Client::new(in_memory(&Wires::default(), hasty)).transport(Transport::Spdy);
    let streams = Streams {
        stdout: true,
        stderr: true,
        ..Streams::default()
    };
    let request = client::request(&"http://pod/exec".parse().unwrap());
    let remote = client.exec(request, streams).await.unwrap();
    let mut stdout = Vec::new();
    let copied = remote.copy(tokio::io::empty(), &mut stdout, tokio::io::sink());
    let outcome = timeout(SOON, copied).await.expect("it ends").unwrap();
    let is_whole = |outcome: Status| outcome.to_string().len() == 900_000;
    assert!(is_whole(outcome));
    assert_eq!(stdout.len(), 500_000);

    let ask = |_| client::request(&"http://pod/exec".parse().unwrap());
    let mut archive = Vec::new();
    let copied = client.copy_from(ask, "x", &mut archive, |_| {});
    let failed = timeout(SOON, copied).await.expect("it ends").unwrap_err();
    let CopyError::Tar { status, .. } = failed else {
        panic!("{failed:?}");
    };
    assert!(is_whole(status));
    assert_eq!(archive.len(), 500_000);
}
