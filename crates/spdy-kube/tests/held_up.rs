//! Clients that cannot send because their bytes are not read. A client that disappears is noticed,
//! and the others are not disturbed.

mod support;

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, routing::any};
use futures_util::SinkExt;
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use spdy_kube::{
    Exit, Server, Status, Streams,
    client::{self, Forward},
    relay,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use self::support::{SOON, exec_server, forward_server, serve, told, unread};

/// How often the server probes clients in these tests.
const PERIOD: Duration = Duration::from_millis(100);

const STREAMS: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

const EXEC: &str = "/exec?command=x&stdin=true&stdout=true";

fn watching(period: Duration) -> Server {
    Server::new().watch(period)
}

/// Runs a client until it cannot send any more. Then it disappears, with all bytes that its system
/// has not sent.
async fn vanish<C, F>(client: C)
where
    C: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let (held_up, vanished) = oneshot::channel();
    thread::spawn(move || {
        // The tasks of the client end with its runtime, and so do their sockets.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client());
        drop(runtime);
        _ = held_up.send(());
    });
    timeout(SOON, vanished).await.unwrap().unwrap();
}

/// A peer that has taken nothing for this long takes no more. A server on a busy machine takes some
/// bytes meanwhile.
const FULL: Duration = Duration::from_secs(3);

/// Sends until the peer takes nothing more.
async fn fill(mut to: impl AsyncWrite + Unpin) {
    let bytes = vec![b'x'; 64 * 1024];
    while let Ok(sent) = timeout(FULL, to.write_all(&bytes)).await {
        sent.unwrap();
    }
    // Dropping the stream would reset it.
    std::mem::forget(to);
}

async fn exec(address: SocketAddr) -> client::Remote {
    let uri = format!("http://{address}{EXEC}");
    let transport = TcpStream::connect(address).await.unwrap();
    let request = client::request(&uri.parse().unwrap());
    client::exec(transport, request, STREAMS).await.unwrap()
}

async fn fill_stdin(address: SocketAddr) {
    let mut remote = exec(address).await;
    fill(remote.stdin.take().unwrap()).await;
    std::mem::forget(remote);
}

#[tokio::test]
async fn a_client_of_exec_that_vanishes_is_told_of() {
    let (address, news) = unread(watching(PERIOD)).await;
    vanish(move || fill_stdin(address)).await;
    told(news).await;
}

/// This is what `watch` is for. Without it nothing detects the client's end.
#[tokio::test]
async fn without_a_look_nobody_sees_a_client_vanish() {
    let (address, mut news) = unread(watching(Duration::from_secs(3600))).await;
    vanish(move || fill_stdin(address)).await;
    let gone = timeout(10 * PERIOD, news.recv()).await;
    assert!(gone.is_err(), "then the watch is not needed");
}

#[tokio::test]
async fn a_client_of_exec_over_websocket_that_vanishes_is_told_of() {
    let (address, news) = unread(watching(PERIOD)).await;
    vanish(move || fill_websocket(address, EXEC.to_owned())).await;
    told(news).await;
}

/// Sends on channel 0 of a WebSocket until the peer takes nothing more.
async fn fill_websocket(address: SocketAddr, path: String) {
    let uri = format!("ws://{address}{path}");
    let mut request = uri.into_client_request().unwrap();
    let protocol = HeaderValue::from_static("v5.channel.k8s.io");
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let transport = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(request, transport).await.unwrap();
    let message = || Message::Binary(vec![0; 32 * 1024].into());
    while let Ok(sent) = timeout(FULL, socket.send(message())).await {
        sent.unwrap();
    }
}

#[tokio::test]
async fn a_client_of_a_forward_that_vanishes_ends_the_connection() {
    vanishing_forward(|address, port| async move {
        let transport = TcpStream::connect(address).await.unwrap();
        let uri = format!("http://{address}/forward").parse().unwrap();
        let forward = Forward::connect(transport, client::request(&uri));
        let forward = forward.await.unwrap();
        fill(forward.open(port).await.unwrap()).await;
        std::mem::forget(forward);
    })
    .await;
}

#[tokio::test]
async fn a_client_of_a_forward_over_websocket_that_vanishes_ends_the_connection() {
    vanishing_forward(|address, port| fill_websocket(address, format!("/forward?ports={port}")))
        .await;
}

/// Lets a client disappear that has sent as much as it could to a port that reads nothing.
async fn vanishing_forward<F>(client: impl FnOnce(SocketAddr, u16) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = forward_server(Server::new().watch(PERIOD)).await;
    let target = tokio::spawn(async move { listener.accept().await.unwrap().0 });
    vanish(move || client(address, port)).await;
    // The target has taken only what its buffers hold. Its connection ends when the server drops
    // it.
    let mut target = target.await.unwrap();
    sleep(20 * PERIOD).await;
    let read = async {
        let mut bytes = vec![0; 1 << 20];
        while let Ok(1..) = target.read(&mut bytes).await {}
    };
    timeout(SOON, read).await.expect("the connection ends");
}

#[tokio::test]
async fn a_client_that_vanishes_behind_a_relay_is_told_of() {
    let (server, mut news) = unread(watching(PERIOD)).await;
    let handler = move |mut request: Request| async move {
        let target = request.uri().path_and_query().unwrap();
        let uri = format!("http://{server}{target}").parse().unwrap();
        let transport = TcpStream::connect(server).await.unwrap();
        relay(&mut request, client::request(&uri), transport, ()).await
    };
    let relay = serve(Router::new().fallback(any(handler))).await;
    vanish(move || fill_stdin(relay)).await;
    // A relay probes every 5 s.
    let gone = timeout(2 * SOON, news.recv()).await;
    assert_eq!(gone.expect("the end is reported"), Some(()));
}

#[tokio::test]
async fn a_client_that_waits_loses_nothing() {
    const LENGTH: usize = 8 << 20;
    let address = exec_server(Server::new().watch(PERIOD / 10), |mut io| async move {
        let start = Instant::now();
        sleep(10 * PERIOD).await;
        let mut bytes = Vec::new();
        let mut stdin = io.stdin.take().unwrap();
        stdin.read_to_end(&mut bytes).await?;
        let is_whole = bytes.len() == LENGTH && bytes.iter().all(|byte| *byte == b'x');
        // The probes are no part of the input.
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(b"hello").await?;
        assert!(start.elapsed() >= 10 * PERIOD);
        Ok(Exit::code(u8::from(!is_whole)))
    })
    .await;
    let mut remote = exec(address).await;
    let mut stdin = remote.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut output = String::new();
    let mut stdout = remote.stdout.take().unwrap();
    stdout.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "hello");
    assert_eq!(remote.outcome().await.unwrap(), Status::Success);
}
