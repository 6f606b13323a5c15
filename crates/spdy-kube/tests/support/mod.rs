//! A server on loopback, and clients that open streams as a test needs them.

#![allow(dead_code, reason = "no test file uses all of it")]

pub(crate) mod chain;
pub(crate) mod wires;

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use spdy_kube::{
    BoxError, Exit, Io, Options, Protocol, Server, Status, Streams,
    client::{Remote, Transport},
};
use spdy_session::{HeaderBlock, OpenOptions, Session, Stream, StreamError};
use spdy_tower::upgrade::{self, ConnectError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// A test that takes longer than this hangs, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// All streams of a command without a terminal.
pub(crate) const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

pub(crate) const TERMINAL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// The protocols of the client and the server of a relay.
pub(crate) const PAIRS: [(Transport, Transport); 4] = [
    (Transport::Spdy, Transport::Spdy),
    (Transport::Spdy, Transport::WebSocket),
    (Transport::WebSocket, Transport::Spdy),
    (Transport::WebSocket, Transport::WebSocket),
];

/// How long a server waits for streams in tests in which some never arrive.
pub(crate) const GATHER: Duration = Duration::from_secs(5);

/// A server whose `/exec` runs `run` with the streams of the query.
pub(crate) async fn exec_server<F, R>(server: Server, run: F) -> SocketAddr
where
    F: Fn(Io) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
{
    let exec = move |mut request: Request| {
        let (server, run) = (server.clone(), run.clone());
        async move {
            let query = request.uri().query().unwrap_or_default();
            match Options::from_query(query) {
                Ok(options) => server.exec(&mut request, options.streams, run),
                Err(error) => Status::bad_request(error.to_string()).into_response(),
            }
        }
    };
    serve(Router::new().route("/exec", any(exec))).await
}

/// A server whose command echoes its input in upper case, writes an error, and ends with 7.
pub(crate) async fn shouting() -> SocketAddr {
    exec_server(Server::new(), |mut io| async move {
        let mut input = String::new();
        let mut stdin = io.stdin.take().unwrap();
        stdin.read_to_string(&mut input).await?;
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(input.to_uppercase().as_bytes()).await?;
        if let Some(mut stderr) = io.stderr.take() {
            stderr.write_all(b"oops").await?;
        }
        Ok(Exit::code(7))
    })
    .await
}

/// Exchanges data with the command of a [`shouting`] server.
pub(crate) async fn shout(mut remote: Remote, protocol: Protocol) {
    assert_eq!(remote.protocol, protocol);
    let mut stdin = remote.stdin.take().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(read(&mut remote.stdout.take().unwrap()).await, "HELLO");
    assert_eq!(read(&mut remote.stderr.take().unwrap()).await, "oops");
    let outcome = timeout(SOON, remote.outcome()).await.expect("it ends soon");
    assert_eq!(outcome.unwrap(), Status::Exit(Exit::code(7)));
}

/// A server whose command does not read its input, and a signal that its client is gone.
pub(crate) async fn unread(server: Server) -> (SocketAddr, UnboundedReceiver<()>) {
    let (told, news) = unbounded_channel();
    let address = exec_server(server, move |mut io| {
        let told = told.clone();
        async move {
            let _unread = io.stdin.take();
            io.client.gone().await;
            told.send(())?;
            Ok(Exit::SUCCESS)
        }
    });
    (address.await, news)
}

/// Waits for the signal.
pub(crate) async fn told(mut news: UnboundedReceiver<()>) {
    let told = timeout(SOON, news.recv()).await;
    assert_eq!(told.expect("the end is reported soon"), Some(()));
}

/// A server whose `/forward` connects to the ports of this machine.
pub(crate) async fn forward_server(server: Server) -> SocketAddr {
    let connect = |port| async move { Ok(TcpStream::connect(("127.0.0.1", port)).await?) };
    forward_with(server, connect).await
}

/// A server whose `/forward` makes connections with `connect`.
pub(crate) async fn forward_with<F, R, IO>(server: Server, connect: F) -> SocketAddr
where
    F: Fn(u16) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<IO, BoxError>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let forward = move |mut request: Request| {
        let response = server.port_forward(&mut request, "demo", connect.clone());
        std::future::ready(response)
    };
    serve(Router::new().route("/forward", any(forward))).await
}

/// A port that echoes what it reads, and ends when its input has ended.
pub(crate) async fn echo_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

/// A port that passes connections on to a server, and cuts each when this many bytes have gone to
/// the server, or have come back.
pub(crate) async fn cut_after(server: SocketAddr, sent: u64, received: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move {
                let (from_client, to_client) = client.split();
                let (from_server, to_server) = server.split();
                tokio::select! {
                    () = pass(from_client.take(sent), to_server) => {}
                    () = pass(from_server.take(received), to_client) => {}
                }
            });
        }
    });
    address
}

/// Copies until the limit is reached.
async fn pass(mut from: tokio::io::Take<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    _ = tokio::io::copy(&mut from, &mut to).await;
    if from.limit() > 0 {
        std::future::pending().await
    }
}

pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// An upgraded session.
pub(crate) struct Client {
    pub(crate) response: Response<()>,
    pub(crate) session: Session,
}

/// Sends a request for `path` that offers protocols.
pub(crate) async fn connect(
    address: SocketAddr,
    path: &str,
    protocols: &[&str],
) -> Result<Client, Response<Bytes>> {
    let mut request = upgrade::request(&format!("http://{address}{path}").parse().unwrap());
    for name in protocols {
        request.headers_mut().append(
            HeaderName::from_static("x-stream-protocol-version"),
            HeaderValue::from_str(name).unwrap(),
        );
    }
    let transport = TcpStream::connect(address).await.unwrap();
    let connected = timeout(SOON, upgrade::connect(transport, request)).await;
    match connected.expect("an answer comes soon") {
        Ok((response, transport)) => {
            let (session, incoming, driver) =
                spdy_session::client(transport, spdy_session::Version::V3_1, spdy_kube::config());
            tokio::spawn(driver);
            drop(incoming);
            Ok(Client { response, session })
        }
        Err(ConnectError::Refused(response)) => Err(*response),
        Err(error) => panic!("{error}"),
    }
}

impl Client {
    pub(crate) fn chosen(&self) -> &str {
        let name = &self.response.headers()["x-stream-protocol-version"];
        assert_eq!(self.response.status(), StatusCode::SWITCHING_PROTOCOLS);
        name.to_str().unwrap()
    }

    /// Opens a stream and waits for the reply, as kubectl does.
    pub(crate) async fn open(&self, fields: &[(&str, &str)]) -> Result<Stream, StreamError> {
        let headers = HeaderBlock::from_pairs(fields.iter().copied()).unwrap();
        let mut stream = self
            .session
            .open(headers, OpenOptions::default())
            .await
            .expect("session is open");
        let answer = timeout(SOON, stream.response_headers()).await;
        let headers = answer.expect("an answer comes soon")?;
        assert!(headers.is_empty());
        Ok(stream)
    }

    /// Opens a stream of exec.
    pub(crate) async fn open_type(&self, name: &str) -> Result<Stream, StreamError> {
        self.open(&[("streamtype", name)]).await
    }
}

/// Returns everything that arrives on a stream, which has to end in order.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let (bytes, result) = read_any(stream).await;
    result.expect("stream ends in order");
    bytes
}

/// Returns everything that arrives on a stream, and how it ends.
pub(crate) async fn read_any(stream: &mut (impl AsyncRead + Unpin)) -> (String, io::Result<usize>) {
    let mut bytes = Vec::new();
    let result = timeout(SOON, stream.read_to_end(&mut bytes)).await;
    let result = result.expect("stream ends soon");
    (String::from_utf8(bytes).unwrap(), result)
}
