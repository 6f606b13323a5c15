//! Port-forward over SPDY, with a client that opens the streams itself.

mod support;

use std::{net::SocketAddr, time::Duration};

use spdy_kube::Server;
use spdy_session::{Stream, StreamError};
use spdy_tests::vacant::Vacant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use self::support::{Client, GATHER, SOON, connect, forward_server, forward_with, read, read_any};

async fn session(address: SocketAddr) -> Client {
    let client = connect(address, "/forward", &["portforward.k8s.io"]).await;
    let client = client.unwrap();
    assert_eq!(client.chosen(), "portforward.k8s.io");
    client
}

/// Opens one of the two streams of a connection.
async fn open(client: &Client, kind: &str, port: u16, id: &str) -> Result<Stream, StreamError> {
    let port = port.to_string();
    let fields = [("streamtype", kind), ("port", &port), ("requestid", id)];
    client.open(&fields).await
}

/// Opens a connection as kubectl does: opens the error stream first, and finishes it at once.
async fn pair(client: &Client, port: u16, id: &str) -> (Stream, Stream) {
    let mut error = open(client, "error", port, id).await.unwrap();
    error.shutdown().await.unwrap();
    (error, open(client, "data", port, id).await.unwrap())
}

/// A target that serves each connection with `serve`.
async fn target<F, R>(serve: F) -> u16
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    port
}

async fn echo(mut socket: TcpStream) {
    let (mut from, mut to) = socket.split();
    _ = tokio::io::copy(&mut from, &mut to).await;
    _ = to.shutdown().await;
}

#[tokio::test]
async fn connections_are_carried_and_half_closed() {
    let client = session(forward_server(Server::new()).await).await;
    let port = target(echo).await;
    let mut tasks = Vec::new();
    for id in 0..20 {
        let (mut error, data) = pair(&client, port, &id.to_string()).await;
        tasks.push(tokio::spawn(async move {
            let sent = format!("{id} ").repeat(100_000);
            let (mut from, mut to) = data.split();
            let bytes = sent.clone().into_bytes();
            tokio::spawn(async move {
                to.write_all(&bytes).await.unwrap();
                to.shutdown().await.unwrap();
            });
            assert!(read(&mut from).await == sent);
            assert_eq!(read(&mut error).await, "");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_target_that_ends_first_ends_data_and_error() {
    let client = session(forward_server(Server::new()).await).await;
    let port = target(|mut socket| async move {
        socket.write_all(b"bye").await.unwrap();
    })
    .await;
    let (mut error, mut data) = pair(&client, port, "0").await;
    assert_eq!(read(&mut data).await, "bye");
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn a_target_that_resets_ends_its_connection_and_no_other() {
    let client = session(forward_server(Server::new()).await).await;
    let port = target(|socket| async move {
        socket.readable().await.unwrap();
        // Closes with unread input.
    })
    .await;
    let (mut error, mut data) = pair(&client, port, "0").await;
    data.write_all(&[0; 100_000]).await.unwrap();
    assert_eq!(read(&mut error).await, "", "a text would end the session");
    drop(read_any(&mut data).await);
    let port = target(echo).await;
    let (mut error, mut data) = pair(&client, port, "1").await;
    data.write_all(b"still there").await.unwrap();
    data.shutdown().await.unwrap();
    assert_eq!(read(&mut data).await, "still there");
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn a_closed_port_is_told_and_the_error_stream_ended() {
    let client = session(forward_server(Server::new()).await).await;
    let vacant = Vacant::take();
    let port = vacant.address().port();
    let (mut error, mut data) = pair(&client, port, "0").await;
    let text = read(&mut error).await;
    let begin = format!("error forwarding port {port} to pod demo: ");
    assert!(text.starts_with(&begin), "{text}");
    assert!(read_any(&mut data).await.1.is_err(), "data is reset");
}

#[tokio::test]
async fn a_client_that_resets_closes_the_target() {
    let client = session(forward_server(Server::new()).await).await;
    let (told, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let port = target(move |mut socket| {
        let told = told.clone();
        async move {
            let mut bytes = vec![0; 4];
            socket.read_exact(&mut bytes).await.unwrap();
            told.send(bytes.clone()).unwrap();
            _ = socket.read_to_end(&mut bytes).await;
            told.send(bytes).unwrap();
        }
    })
    .await;
    let (mut error, mut data) = pair(&client, port, "0").await;
    data.write_all(b"some").await.unwrap();
    assert_eq!(closed.recv().await.unwrap(), b"some");
    data.reset(spdy_session::RstStatus::CANCEL);
    assert_eq!(closed.recv().await.unwrap(), b"some");
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn without_request_ids_streams_are_paired_by_their_order() {
    let client = session(forward_server(Server::new()).await).await;
    let port = target(echo).await.to_string();
    let error = [("streamtype", "error"), ("port", &*port)];
    let mut error = client.open(&error).await.unwrap();
    let data = [("streamtype", "data"), ("port", &*port)];
    let mut data = client.open(&data).await.unwrap();
    data.write_all(b"old").await.unwrap();
    data.shutdown().await.unwrap();
    assert_eq!(read(&mut data).await, "old");
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn streams_without_a_sound_type_and_port_are_reset() {
    let client = session(forward_server(Server::new()).await).await;
    for port in ["0", "65536", "-1", "http", ""] {
        let fields = [("streamtype", "error"), ("port", port), ("requestid", "0")];
        assert!(client.open(&fields).await.is_err(), "port {port:?}");
    }
    assert!(open(&client, "stdin", 80, "0").await.is_err());
    let no_port = [("streamtype", "data"), ("requestid", "0")];
    assert!(client.open(&no_port).await.is_err());
    let no_type = [("port", "80"), ("requestid", "0")];
    assert!(client.open(&no_type).await.is_err());
}

#[tokio::test]
async fn a_request_id_is_for_one_connection_at_a_time() {
    let client = session(forward_server(Server::new()).await).await;
    let port = target(echo).await;
    let mut error = open(&client, "error", port, "7").await.unwrap();
    assert!(open(&client, "error", port, "7").await.is_err(), "twice");
    assert!(open(&client, "data", port ^ 1, "7").await.is_err(), "port");
    let mut data = open(&client, "data", port, "7").await.unwrap();
    assert!(open(&client, "data", port, "7").await.is_err(), "in use");
    data.write_all(b"once").await.unwrap();
    data.shutdown().await.unwrap();
    assert_eq!(read(&mut data).await, "once");
    assert_eq!(read(&mut error).await, "");
    // The connection has ended, so its id is free.
    let (mut error, mut data) = loop {
        match open(&client, "error", port, "7").await {
            Ok(error) => break (error, open(&client, "data", port, "7").await.unwrap()),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    data.shutdown().await.unwrap();
    assert_eq!(read(&mut data).await, "");
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn half_a_connection_is_given_up_with_a_reason() {
    let server = Server::new().gather(GATHER);
    let client = session(forward_server(server).await).await;
    let mut error = open(&client, "error", 80, "0").await.unwrap();
    let mut data = open(&client, "data", 80, "1").await.unwrap();
    assert_eq!(read(&mut error).await, "timed out waiting for streams");
    assert!(read_any(&mut data).await.1.is_err(), "data is reset");
    // The session goes on.
    let (mut error, mut data) = pair(&client, target(echo).await, "0").await;
    data.shutdown().await.unwrap();
    assert_eq!(read(&mut data).await, "");
    assert_eq!(read(&mut error).await, "");
}

/// If a closure of the program panics, one connection fails, and the client can use its id again.
#[tokio::test]
async fn a_connection_that_panicked_leaves_nothing_behind() {
    let address = panicking_server().await;
    let client = session(address).await;
    for _ in 0..3 {
        // The server learns of the panic and of the last streams in different ways.
        let start = Instant::now();
        let mut error = loop {
            match open(&client, "error", 1, "again").await {
                Ok(error) => break error,
                Err(refused) => assert!(start.elapsed() < SOON, "{refused}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        error.shutdown().await.unwrap();
        let data = open(&client, "data", 1, "again").await.unwrap();
        let text = "error forwarding port 1 to pod demo: it panicked";
        assert_eq!(read(&mut error).await, text);
        drop((error, data));
    }
}

async fn panicking_server() -> SocketAddr {
    let connect = |_| async { panic!("on purpose") };
    forward_with::<_, _, TcpStream>(Server::new(), connect).await
}

#[tokio::test]
async fn an_id_of_a_request_that_is_too_long_is_refused() {
    let client = session(forward_server(Server::new()).await).await;
    let long = "x".repeat(257);
    let refused = open(&client, "error", 1, &long).await;
    assert!(
        matches!(refused, Err(StreamError::Reset { .. })),
        "{refused:?}"
    );
    assert!(open(&client, "error", 1, &long[1..]).await.is_ok());
}
