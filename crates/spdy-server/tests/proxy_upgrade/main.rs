//! WebSocket and other upgrades through the reverse proxy, with applications that write HTTP/1.1
//! byte by byte.

#[path = "../common/mod.rs"]
mod common;
mod cut;
mod refused;
mod switched;

use std::{future::Future, net::SocketAddr};

use spdy_server::{
    Config,
    app::{Proxy, proxy},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use self::common::server::{LONG, Running, loopback, plain};

/// Starts an application that does this with each connection, whose first head it has read.
async fn application<F, A>(act: F) -> SocketAddr
where
    F: Fn(String, TcpStream) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            if let Some(head) = head(&mut io).await {
                tokio::spawn(act(head, io));
            }
        }
    });
    address
}

/// Reads a head, byte by byte. Returns `None` at the end of the connection.
async fn head(io: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(LONG, io.read_u8()).await.expect("no head came");
        head.push(byte.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn front(upstream: &str, config: Config, change: impl Fn(&mut Proxy)) -> Running {
    let mut options = Proxy::new(upstream.parse().unwrap());
    change(&mut options);
    Running::start(config, proxy(options)).await
}

/// Starts a proxy with the default limits for an application.
async fn before(application: SocketAddr) -> Running {
    front(
        &format!("http://{application}"),
        plain(Default::default()),
        |_| {},
    )
    .await
}

/// Sends a request with these lines, and returns the connection and the head of the response.
async fn ask(front: &Running, lines: &str) -> (TcpStream, String) {
    let mut io = TcpStream::connect(front.address).await.unwrap();
    let request = format!("GET /chat HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut io).await.expect("there is a response");
    (io, head)
}

const WEBSOCKET: &str = "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
     upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
