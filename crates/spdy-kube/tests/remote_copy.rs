//! Copies between streams of this side and those of a command.

mod support;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use spdy_kube::{
    Exit, Io, Options, Server, Status,
    client::{self, Client, ClientError, Remote, Transport},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex, empty, sink},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use self::support::{ALL, SOON, cut_after, exec_server};

const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

async fn exec(address: SocketAddr, transport: Transport) -> Remote {
    let mut options = Options::default();
    options.command = vec!["x".to_owned()];
    options.streams = ALL;
    let url = format!("http://{address}/exec?{}", options.to_query());
    let connect = || async move { TcpStream::connect(address).await.map(TokioIo::new) };
    let client = Client::new(connect).transport(transport);
    let request = client::request(&url.parse().unwrap());
    client.exec(request, ALL).await.unwrap()
}

/// A server whose command ends its outputs, reads its whole input, and tells what it has read.
async fn reading() -> (SocketAddr, mpsc::UnboundedReceiver<io::Result<Vec<u8>>>) {
    let (told, news) = mpsc::unbounded_channel();
    let address = exec_server(Server::new(), move |mut io: Io| {
        let told = told.clone();
        async move {
            let mut stdin = io.stdin.take().unwrap();
            for output in [io.stdout.take(), io.stderr.take()] {
                output.unwrap().shutdown().await?;
            }
            let mut input = Vec::new();
            let read = stdin.read_to_end(&mut input).await;
            _ = told.send(read.map(|_| input));
            Ok(Exit::SUCCESS)
        }
    });
    (address.await, news)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("it does not take so long")
}

/// `sh -c 'exec cat > file 2> /dev/null'` does this.
#[tokio::test]
async fn a_command_that_has_closed_its_outputs_gets_its_whole_input() {
    for transport in BOTH {
        let (address, mut news) = reading().await;
        let input = vec![b'x'; 3_000_000];
        let remote = exec(address, transport).await;
        let outcome = soon(remote.copy(&input[..], sink(), sink())).await;
        assert_eq!(outcome.unwrap(), Status::Success);
        let read = soon(news.recv()).await.unwrap().unwrap();
        assert_eq!(read.len(), input.len(), "{transport:?}");
    }
}

#[tokio::test]
async fn an_input_that_cannot_be_read_does_not_look_complete() {
    for transport in BOTH {
        let (address, mut news) = reading().await;
        let stdin = b"the first half".chain(Broken);
        let remote = exec(address, transport).await;
        match soon(remote.copy(stdin, sink(), sink())).await {
            Err(ClientError::Stream(error)) => assert_eq!(error.to_string(), "disk is broken"),
            other => panic!("{other:?}"),
        }
        let read = soon(news.recv()).await.unwrap();
        assert!(read.is_err(), "{transport:?}: {read:?}");
    }
}

#[tokio::test]
async fn an_input_does_not_look_complete_if_the_copying_is_dropped() {
    for transport in BOTH {
        let (address, mut news) = reading().await;
        let (stdin, mut ours) = duplex(100);
        let remote = exec(address, transport).await;
        let copying = tokio::spawn(remote.copy(stdin, sink(), sink()));
        // When the second half is taken the first has been read.
        ours.write_all(&[b'x'; 200]).await.unwrap();
        copying.abort();
        let read = soon(news.recv()).await.unwrap();
        assert!(read.is_err(), "{transport:?}: {read:?}");
    }
}

/// The connection is cut while an output is on its way.
#[tokio::test]
async fn a_session_that_is_cut_is_no_success() {
    for transport in BOTH {
        let server = exec_server(Server::new(), |mut io: Io| async move {
            let mut stdout = io.stdout.take().unwrap();
            stdout.write_all(&[b'x'; 10_000]).await?;
            std::future::pending().await
        });
        let through = cut_after(server.await, u64::MAX, 5000).await;
        let remote = exec(through, transport).await;
        let copied = soon(remote.copy(empty(), sink(), sink())).await;
        assert!(copied.is_err(), "{transport:?}: {copied:?}");
    }
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_told() {
    for transport in BOTH {
        let server = exec_server(Server::new(), |mut io: Io| async move {
            io.stdout.take().unwrap().write_all(b"x").await?;
            io.client.gone().await;
            Ok(Exit::SUCCESS)
        });
        let remote = exec(server.await, transport).await;
        let (full, _) = duplex(1);
        let copied = soon(remote.copy(empty(), full, sink())).await;
        assert!(matches!(copied, Err(ClientError::Stream(_))), "{copied:?}");
    }
}

/// Input and both outputs at once, more than fits into any buffer.
#[tokio::test]
async fn everything_is_copied_both_ways() {
    for transport in BOTH {
        let server = exec_server(Server::new(), |mut io: Io| async move {
            let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
            let mut stderr = io.stderr.take().unwrap();
            tokio::io::copy(&mut stdin, &mut stdout).await?;
            stderr.write_all(b"that was all").await?;
            Ok(Exit::code(7))
        });
        let input: Vec<u8> = (0..5_000_000_u32)
            .map(|index| (index % 251) as u8)
            .collect();
        let (out, err) = (Shared::default(), Shared::default());
        let remote = exec(server.await, transport).await;
        let outcome = soon(remote.copy(&input[..], out.clone(), err.clone())).await;
        assert_eq!(outcome.unwrap(), Status::Exit(Exit::code(7)));
        assert!(*out.0.lock().unwrap() == input, "{transport:?}");
        assert_eq!(*err.0.lock().unwrap(), b"that was all");
    }
}

/// A file on a disk that is broken.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("disk is broken")))
    }
}

/// Bytes that were written, for the test and the copy.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
