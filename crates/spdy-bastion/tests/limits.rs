//! Every limit is reached.

mod support;

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use spdy_bastion::Security;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use self::support::{SOON, Test, api::Api};

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(200);

/// Waits until the bastion closes a connection.
async fn closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    _ = timeout(SOON, socket.read_to_end(&mut rest))
        .await
        .expect("connection ends soon");
}

#[tokio::test]
async fn connections_above_the_limit_wait() {
    let test = Test::start(|config, _| {
        config.security = Security::Plain;
        config.limits.connections = 1;
    })
    .await;
    let mut first = TcpStream::connect(test.address).await.unwrap();
    first
        .write_all(b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut piece = [0; 12];
    first.read_exact(&mut piece).await.unwrap();
    let second = support::raw(
        test.address,
        "GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let mut second = std::pin::pin!(second);
    // The pause shows that nothing happens.
    assert!(timeout(SHORT, &mut second).await.is_err());
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 202"));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let test = Test::start(|config, _| config.limits.handshake = SHORT).await;
    closed(TcpStream::connect(test.address).await.unwrap()).await;
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let test = Test::start(|config, _| {
        config.security = Security::Plain;
        config.limits.head = SHORT;
    })
    .await;
    let mut socket = TcpStream::connect(test.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    closed(socket).await;
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_the_handshake_is_a_502() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut api = Api::start().await;
    api.address = silent.local_addr().unwrap();
    api.scheme = "https";
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let data = BASE64_STANDARD.encode(authority.cert.pem());
    api.cluster = format!(", certificate-authority-data: {data}");
    let test = Test::in_front_of(api, |config, _| config.limits.connect = SHORT).await;
    assert_eq!(test.get("/version").await.status(), 502);
    let refused = test
        .exec(&["echo", "a"], support::OUTPUT)
        .await
        .unwrap_err();
    assert_eq!(refused.http_status().unwrap(), 502);
}

#[tokio::test]
async fn a_shutdown_waits_for_the_drain_time_alone() {
    let mut test = Test::start(|config, _| config.limits.drain = SHORT).await;
    let (mut sender, connection) = http1::handshake(test.connect().await.unwrap())
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::get("/watch").body(Empty::<Bytes>::new()).unwrap();
    test.authorize(&mut request);
    let response = timeout(SOON, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let bastion = test.bastion.take().unwrap();
    timeout(SOON, bastion.shutdown("bye"))
        .await
        .expect("shutdown ends soon");
    let rest = timeout(SOON, response.into_body().collect())
        .await
        .expect("watch ends soon");
    assert!(
        rest.is_err(),
        "a response that is cut has not ended in order"
    );
}
