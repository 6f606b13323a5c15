//! Exec, attach and port-forward over WebSocket.

mod support;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_kube::{Exit, Io, Server, Size, Status, Streams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use self::support::{SOON, exec_server, shouting, told};

type Socket = WebSocketStream<TcpStream>;

async fn open(address: SocketAddr, path: &str, protocols: &str) -> Result<Socket, StatusCode> {
    let uri = format!("ws://{address}{path}");
    let mut request = uri.into_client_request().unwrap();
    let offered = HeaderValue::from_str(protocols).unwrap();
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, offered);
    let transport = TcpStream::connect(address).await.unwrap();
    match client_async(request, transport).await {
        Ok((socket, response)) => {
            let chosen = &response.headers()[SEC_WEBSOCKET_PROTOCOL];
            assert!(protocols.ends_with(chosen.to_str().unwrap()));
            Ok(socket)
        }
        Err(Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

async fn send(socket: &mut Socket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
}

/// Returns all bytes of stdout and stderr, the outcome, and the code of the end.
async fn read(socket: &mut Socket) -> (String, String, String, Option<CloseCode>) {
    let mut channels = [const { Vec::new() }; 4];
    while let Some(message) = timeout(SOON, socket.next()).await.expect("it ends soon") {
        match message.expect("it ends in order") {
            Message::Binary(message) => {
                channels[usize::from(message[0])].extend_from_slice(&message[1..]);
            }
            Message::Close(frame) => {
                let [_, stdout, stderr, error] = channels.map(|c| String::from_utf8(c).unwrap());
                return (stdout, stderr, error, frame.map(|frame| frame.code));
            }
            _ => {}
        }
    }
    panic!("no close frame");
}

#[tokio::test]
async fn v5_carries_streams_and_the_end_of_stdin() {
    let address = shouting().await;
    let path = "/exec?command=x&stdin=true&stdout=true&stderr=true";
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    send(&mut socket, 0, b"hel").await;
    send(&mut socket, 0, b"").await;
    send(&mut socket, 9, b"unknown").await;
    send(&mut socket, 0, b"lo").await;
    send(&mut socket, 255, &[0]).await;
    let expected = Status::Exit(Exit::code(7)).to_json();
    let (stdout, stderr, error, code) = read(&mut socket).await;
    assert_eq!((&*stdout, &*stderr, error), ("HELLO", "oops", expected));
    assert_eq!(code, Some(CloseCode::Normal));
}

#[tokio::test]
async fn v4_has_no_end_of_stdin() {
    let address = exec_server(Server::new(), |mut io| async move {
        let stdin = io.stdin.as_mut().unwrap();
        let mut bytes = [0; 3];
        stdin.read_exact(&mut bytes).await?;
        let ended = timeout(Duration::from_millis(300), stdin.next()).await;
        assert!(ended.is_err(), "nothing more comes");
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let mut socket = open(address, path, "v4.channel.k8s.io").await.unwrap();
    send(&mut socket, 0, b"abc").await;
    send(&mut socket, 255, &[0]).await;
    let (.., error, _) = read(&mut socket).await;
    assert_eq!(error, Status::Success.to_json());
}

#[tokio::test]
async fn sizes_of_the_terminal_arrive() {
    let address = exec_server(Server::new(), |mut io| async move {
        let mut resize = io.resize.take().unwrap();
        let size = resize.next().await.unwrap();
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(size.to_json().as_bytes()).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=x&stdout=true&tty=true";
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    let size = Size {
        width: 111,
        height: 33,
    };
    let json = size.to_json();
    send(&mut socket, 4, &json.as_bytes()[..7]).await;
    send(&mut socket, 4, &json.as_bytes()[7..]).await;
    let (stdout, ..) = read(&mut socket).await;
    assert_eq!(stdout, json);
}

#[tokio::test]
async fn a_large_input_comes_back_whole() {
    let address = exec_server(Server::new(), |mut io| async move {
        let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
        tokio::io::copy(&mut stdin, &mut stdout).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=cat&stdin=true&stdout=true";
    let socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    let (mut sender, mut receiver) = socket.split();
    let piece: Bytes = [&[0][..], &[b'x'; 32 * 1024]].concat().into();
    tokio::spawn(async move {
        for _ in 0..200 {
            sender.send(Message::Binary(piece.clone())).await.unwrap();
        }
        let end = Message::Binary(Bytes::from_static(&[255, 0]));
        sender.send(end).await.unwrap();
    });
    let mut received = 0;
    while let Some(message) = timeout(SOON, receiver.next()).await.unwrap() {
        match message.unwrap() {
            Message::Binary(message) if message[0] == 1 => received += message.len() - 1,
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert_eq!(received, 200 * 32 * 1024);
}

#[tokio::test]
async fn a_client_that_vanishes_is_told_of() {
    let (tell, news) = mpsc::unbounded_channel();
    let address = exec_server(Server::new(), move |mut io| {
        let tell = tell.clone();
        async move {
            assert!(io.stdin.take().unwrap().next().await.unwrap().is_err());
            io.client.gone().await;
            tell.send(())?;
            Ok(Exit::SUCCESS)
        }
    })
    .await;
    let path = "/exec?command=x&stdin=true";
    drop(open(address, path, "v5.channel.k8s.io").await.unwrap());
    told(news).await;
}

#[tokio::test]
async fn messages_that_are_no_channel_or_too_long_do_no_harm() {
    let server = Server::new().max_message(1_000_000);
    let address = exec_server(server, |mut io| async move {
        io.client.gone().await;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=x&stdin=true";
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    socket.send(Message::Binary(Bytes::new())).await.unwrap();
    socket.send(Message::Text("text".into())).await.unwrap();
    send(&mut socket, 255, &[]).await;
    send(&mut socket, 255, &[77]).await;
    // A longer message than allowed ends the connection.
    _ = socket
        .send(Message::Binary(vec![0; 2_000_000].into()))
        .await;
    let end = timeout(SOON, async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    end.await.expect("the server ends it");
}

#[tokio::test]
async fn text_is_data_as_well() {
    let address = shouting().await;
    let path = "/exec?command=x&stdin=true&stdout=true&stderr=true";
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    socket.send(Message::text("\0hel")).await.unwrap();
    send(&mut socket, 0, b"lo").await;
    send(&mut socket, 255, &[0]).await;
    let (stdout, ..) = read(&mut socket).await;
    assert_eq!(stdout, "HELLO");
}

/// A server whose command reads its input slowly, and then writes `output` bytes. It reports how
/// much input arrived, and whether the client was gone before.
async fn counting(output: usize) -> (SocketAddr, mpsc::UnboundedReceiver<(usize, bool)>) {
    let (told, news) = mpsc::unbounded_channel();
    let server = Server::new().grace(SOON);
    let address = exec_server(server, move |mut io| {
        let told = told.clone();
        async move {
            let mut stdin = io.stdin.take().unwrap();
            let mut count = 0;
            while let Some(piece) = stdin.next().await {
                sleep(Duration::from_millis(20)).await;
                count += piece?.len();
            }
            _ = io
                .stdout
                .as_mut()
                .unwrap()
                .write_all(&vec![0; output])
                .await;
            told.send((count, io.client.is_gone())).unwrap();
            Ok(Exit::SUCCESS)
        }
    })
    .await;
    (address, news)
}

#[tokio::test]
async fn a_client_that_closes_has_ended_its_input_and_not_the_command() {
    // More than the system's buffers hold, because the client reads no more.
    let (address, mut news) = counting(16 << 20).await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let mut socket = open(address, path, "v4.channel.k8s.io").await.unwrap();
    for _ in 0..20 {
        send(&mut socket, 0, &[7; 1000]).await;
    }
    socket.close(None).await.unwrap();
    let told = timeout(SOON, news.recv()).await.expect("the command ends");
    assert_eq!(told, Some((20_000, false)));
}

#[tokio::test]
async fn a_client_that_is_lost_has_not_ended_its_input() {
    let (address, mut news) = counting(0).await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let mut socket = open(address, path, "v4.channel.k8s.io").await.unwrap();
    send(&mut socket, 0, &[7; 1000]).await;
    drop(socket);
    // The command fails at its input, so it reports nothing.
    let told = timeout(Duration::from_secs(1), news.recv()).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test]
async fn a_command_ends_with_the_grace_of_a_client_that_has_closed() {
    let (told, mut news) = mpsc::unbounded_channel();
    let server = Server::new().grace(Duration::from_millis(300));
    let address = exec_server(server, move |io| {
        let told = told.clone();
        async move {
            let _io = io;
            let _told = told;
            std::future::pending().await
        }
    })
    .await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let mut socket = open(address, path, "v4.channel.k8s.io").await.unwrap();
    socket.close(None).await.unwrap();
    news.close();
    assert_eq!(timeout(SOON, news.recv()).await, Ok::<Option<()>, _>(None));
}

#[tokio::test]
async fn a_message_may_have_32_mib_and_no_more() {
    let path = "/exec?command=x&stdin=true&stdout=true";
    let (address, mut news) = counting(0).await;
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    let most = vec![7; (32 << 20) - 1];
    for _ in 0..2 {
        send(&mut socket, 0, &most).await;
    }
    send(&mut socket, 255, &[0]).await;
    let told = timeout(3 * SOON, news.recv()).await.expect("it ends");
    assert_eq!(told, Some((2 * most.len(), false)));

    let (address, _news) = counting(0).await;
    let mut socket = open(address, path, "v5.channel.k8s.io").await.unwrap();
    send(&mut socket, 0, &[&most[..], &[7]].concat()).await;
    let (.., code) = timeout(3 * SOON, read(&mut socket)).await.expect("it ends");
    assert_eq!(code, Some(CloseCode::Size));
}

/// A message that keeps a connection awake must not look like an outcome. Some clients take every
/// message on the error channel for one.
#[tokio::test]
async fn nothing_but_an_outcome_goes_on_the_channel_of_errors() {
    let server = Server::new().watch(Duration::from_millis(1));
    let address = exec_server(server, |_io| async {
        sleep(Duration::from_millis(200)).await;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=x&stdout=true";
    let mut socket = open(address, path, "v4.channel.k8s.io").await.unwrap();
    let mut messages = 0;
    while let Some(Ok(message)) = timeout(SOON, socket.next()).await.expect("it ends") {
        if message.is_binary() && message.clone().into_data()[0] == 3 {
            assert!(message.len() > 1, "an empty outcome");
        }
        messages += 1;
    }
    assert!(messages > 3, "{messages}");
}

/// Serves a command whose client takes only what the system's buffers hold. Returns how long the
/// connection lasts.
async fn untaken(has_output: bool) -> Duration {
    let (near, far) = duplex(1024);
    let service = service_fn(move |mut request: Request<Incoming>| async move {
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: false,
        };
        let run = move |io: Io| async move {
            let mut stdout = io.stdout.unwrap();
            while has_output && stdout.write_all(&[0; 1024]).await.is_ok() {}
            Err("x".repeat(4096).into())
        };
        Ok::<_, Infallible>(Server::new().exec(&mut request, streams, run))
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    let mut request = "ws://a/exec".into_client_request().unwrap();
    let protocol = HeaderValue::from_static("v5.channel.k8s.io");
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let (mut unread, _) = client_async(request, near).await.unwrap();
    let start = Instant::now();
    while unread.send(Message::Pong(Bytes::new())).await.is_ok() {
        assert!(start.elapsed() < 10 * HOUR, "the connection goes on");
        sleep(Duration::from_secs(60)).await;
    }
    start.elapsed()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_not_waited_for_without_a_bound() {
    for has_output in [false, true] {
        let lasted = untaken(has_output).await;
        let bound = 4 * HOUR..4 * HOUR + Duration::from_secs(120);
        assert!(bound.contains(&lasted), "{has_output}: {lasted:?}");
    }
}
