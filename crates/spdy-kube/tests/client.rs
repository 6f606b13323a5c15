//! This crate's client with its server, directly and through a relay.

mod support;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, routing::any};
use bytes::{Buf, BytesMut};
use http::{HeaderValue, Response, StatusCode};
use spdy_kube::{
    Exit, Protocol, Server, Size, Status, Streams, Tap,
    client::{self, ClientError, Forward, Remote},
    relay,
};
use spdy_session::{
    HeaderBlock, RstStatus, Side, StreamError, StreamId, Version,
    proto::{Connection, Event},
};
use spdy_tests::vacant::Vacant;
use spdy_tower::upgrade::{self, Upgraded};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::support::{
    ALL, SOON, echo_port, exec_server, forward_server, serve, shouting, told, unread,
};

async fn exec(address: SocketAddr, query: &str, streams: Streams) -> Result<Remote, ClientError> {
    let uri = format!("http://{address}/exec?{query}");
    let transport = TcpStream::connect(address).await.unwrap();
    client::exec(transport, client::request(&uri.parse().unwrap()), streams).await
}

/// Exchanges data with a [`shouting`] server.
async fn shout(address: SocketAddr) {
    let query = "command=x&stdin=true&stdout=true&stderr=true";
    let remote = exec(address, query, ALL).await.unwrap();
    support::shout(remote, Protocol::V4).await;
}

#[tokio::test]
async fn a_command_is_run() {
    shout(shouting().await).await;
}

#[tokio::test]
async fn the_size_of_the_terminal_is_told() {
    let address = exec_server(Server::new(), |mut io| async move {
        let size = io.resize.take().unwrap().next().await.unwrap();
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(size.to_json().as_bytes()).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let streams = Streams {
        stdout: true,
        tty: true,
        ..Streams::default()
    };
    let mut remote = exec(address, "command=x&stdout=1&tty=1", streams)
        .await
        .unwrap();
    let size = Size {
        width: 100,
        height: 30,
    };
    remote.resize.as_mut().unwrap().resize(size).await.unwrap();
    let mut told = String::new();
    let stdout = remote.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, size.to_json());
    assert_eq!(remote.outcome().await.unwrap(), Status::Success);
}

#[tokio::test]
async fn a_refusal_is_shown_with_what_the_server_says() {
    let address = shouting().await;
    let refused = exec(address, "command=x", Streams::default()).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("400"), "{refused}");
    assert!(refused.contains("at least 1 of stdin"), "{refused}");
}

#[tokio::test]
async fn an_outcome_that_does_not_come_is_an_error() {
    let app = Router::new().route("/exec", any(break_off));
    let address = serve(app).await;
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let remote = exec(address, "stdout=true", streams).await.unwrap();
    let outcome = timeout(SOON, remote.outcome()).await.expect("it ends soon");
    assert!(
        matches!(outcome, Err(ClientError::Stream(_))),
        "{outcome:?}"
    );
}

/// Replies to the streams and drops the transport.
async fn break_off(mut request: Request) -> Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = HeaderValue::from_static("v4.channel.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let server = upgraded.server(spdy_kube::config()).await;
        let (_session, mut incoming, driver) = server.unwrap();
        let driver = tokio::spawn(driver);
        for _ in 0..2 {
            let stream = incoming.accept().await.unwrap();
            let stream = stream.send_reply(HeaderBlock::new()).unwrap();
            tokio::spawn(async move {
                let _stream = stream;
                std::future::pending::<()>().await
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        driver.abort();
    });
    response
}

#[tokio::test]
async fn a_client_that_is_dropped_ends_the_command() {
    let (address, news) = unread(Server::new()).await;
    let remote = exec(address, "command=x&stdin=1&stdout=1&stderr=1", ALL).await;
    drop(remote.unwrap());
    told(news).await;
}

async fn forward(address: SocketAddr) -> Forward {
    let uri = format!("http://{address}/forward");
    let transport = TcpStream::connect(address).await.unwrap();
    let request = client::request(&uri.parse().unwrap());
    Forward::connect(transport, request).await.unwrap()
}

/// Makes connections over a server of [`forward_server`].
async fn connect(address: SocketAddr) {
    let forward = forward(address).await;
    let port = echo_port().await;
    for text in ["one", "two", "three"] {
        let mut connection = forward.open(port).await.unwrap();
        connection.write_all(text.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, text);
    }
    let vacant = Vacant::take();
    let mut connection = forward.open(vacant.address().port()).await.unwrap();
    let error = timeout(SOON, connection.read(&mut [0])).await;
    let error = error.expect("it ends soon").unwrap_err().to_string();
    assert!(error.starts_with("error forwarding port"), "{error}");
}

#[tokio::test]
async fn connections_are_made() {
    connect(forward_server(Server::new()).await).await;
}

/// A tap that records what passes.
#[derive(Clone, Debug, Default)]
struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().any(|found| found == line)
    }
}

impl Tap for Record {
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        let kind = String::from_utf8_lossy(headers.get("streamtype").unwrap());
        self.0.lock().unwrap().push(format!("{stream} {kind}"));
    }

    fn passed(&self, stream: StreamId, from: Side, bytes: &[u8]) {
        let bytes = String::from_utf8_lossy(bytes);
        let line = format!("{stream} {from:?} {bytes}");
        self.0.lock().unwrap().push(line);
    }

    fn closed(&self, stream: StreamId) {
        self.0.lock().unwrap().push(format!("{stream} closed"));
    }
}

/// A relay in front of a server.
async fn relay_to(server: SocketAddr, record: Record) -> SocketAddr {
    let handler = move |mut request: Request| {
        let record = record.clone();
        async move {
            let target = request.uri().path_and_query().unwrap();
            let uri = format!("http://{server}{target}").parse().unwrap();
            match TcpStream::connect(server).await {
                Ok(transport) => {
                    let onward = client::request(&uri);
                    relay(&mut request, onward, transport, record).await
                }
                Err(error) => Status::internal(error).into_response(),
            }
        }
    };
    serve(Router::new().fallback(any(handler))).await
}

#[tokio::test]
async fn a_relay_passes_a_command_and_its_tap_sees_it() {
    let record = Record::default();
    shout(relay_to(shouting().await, record.clone()).await).await;
    let lines = record.0.lock().unwrap().clone();
    let error = format!("1 Server {}", Status::Exit(Exit::code(7)).to_json());
    assert_eq!(lines[..4], ["1 error", "3 stdin", "5 stdout", "7 stderr"]);
    for line in ["3 Client hello", "5 Server HELLO", "7 Server oops", &error] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
}

#[tokio::test]
async fn a_relay_passes_connections() {
    let server = forward_server(Server::new()).await;
    let record = Record::default();
    connect(relay_to(server, record.clone()).await).await;
    // The session may go on, so the tap needs to know when it can drop its record of a connection.
    let closed = async {
        while !["1 closed", "3 closed"].iter().all(|line| record.has(line)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, closed)
        .await
        .expect("both streams have ended");
}

/// A server that replies to each stream, sends the requested `text` 100,000 times, and resets the
/// stream, all in one write.
async fn resetting() -> SocketAddr {
    let handler = async |mut request: Request| {
        let (response, upgraded) = upgrade::accept(&mut request).unwrap();
        tokio::spawn(async move { reset_all(upgraded.await.unwrap()).await });
        response
    };
    serve(Router::new().fallback(any(handler))).await
}

async fn reset_all(mut transport: Upgraded) -> io::Result<()> {
    let config = Arc::new(spdy_kube::config());
    let mut connection = Connection::new(Side::Server, Version::V3_1, config, Instant::now());
    let mut input = BytesMut::new();
    while transport.read_buf(&mut input).await? > 0 {
        connection.handle_input(Instant::now(), &mut input);
        let mut output = Vec::new();
        while let Some(event) = connection.poll_event() {
            let Event::Opened(opened) = event else {
                continue;
            };
            let text = opened.headers.get("text").unwrap().repeat(100_000);
            connection
                .send_reply(opened.id, HeaderBlock::new(), false)
                .unwrap();
            connection.send_data(opened.id, text.into(), false).unwrap();
            take_output(&mut connection, &mut output);
            connection.reset(opened.id, RstStatus::CANCEL);
        }
        take_output(&mut connection, &mut output);
        transport.write_all(&output).await?;
    }
    Ok(())
}

fn take_output(connection: &mut Connection, output: &mut Vec<u8>) {
    loop {
        let out = connection.poll_transmit(Instant::now());
        let Some(length) = Some(out.chunk().len()).filter(|length| *length > 0) else {
            return;
        };
        output.extend_from_slice(out.chunk());
        out.advance(length);
    }
}

#[tokio::test]
async fn a_relay_passes_what_came_before_a_reset() {
    let relay = relay_to(resetting().await, Record::default()).await;
    let client = support::connect(relay, "/forward", &[]).await.unwrap();
    for number in 0..20 {
        // The reply alone passes too.
        let text = if number % 2 == 0 { "text" } else { "" };
        let fields = [("streamtype", "data"), ("text", text)];
        let mut stream = client.open(&fields).await.expect("there is an answer");
        let (bytes, end) = support::read_any(&mut stream).await;
        assert_eq!(bytes.len(), text.len() * 100_000);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_relay_passes_refusals() {
    let relay = relay_to(shouting().await, Record::default()).await;
    let refused = exec(relay, "command=x", Streams::default()).await;
    let Err(ClientError::Connect(upgrade::ConnectError::Refused(refused))) = refused else {
        panic!("not refused");
    };
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_client_that_vanishes_behind_a_relay_is_told_of() {
    let (address, news) = unread(Server::new()).await;
    let relay = relay_to(address, Record::default()).await;
    let remote = exec(relay, "command=x&stdin=1&stdout=1&stderr=1", ALL).await;
    drop(remote.unwrap());
    told(news).await;
}

/// A tap has to record what the other server does. spdystream uses the first of two values, and a
/// tap might not.
#[tokio::test]
async fn a_relay_refuses_a_stream_that_is_two_things_at_once() {
    let record = Record::default();
    let address = relay_to(shouting().await, record.clone()).await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let client = support::connect(address, path, &["v4.channel.k8s.io"])
        .await
        .unwrap();
    let kinds = [
        "stdout\0x",
        "x\0stdout",
        "STDOUT",
        "stdout\0stdin",
        "unknown",
    ];
    for kind in kinds {
        let refused = client.open(&[("streamtype", kind)]).await;
        assert!(
            matches!(refused, Err(StreamError::Reset { .. })),
            "{kind:?}: {refused:?}"
        );
    }
    assert!(client.open(&[("streamtype", "error")]).await.is_ok());
    assert_eq!(*record.0.lock().unwrap(), ["11 error"]);
}
