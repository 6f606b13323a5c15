//! Requests without streams pass as they are.

mod support;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, client::conn::http1};
use spdy_bastion::{Bastion, Config, Kubeconfig, KubeconfigOptions, Security};
use tokio::{sync::mpsc, time::timeout};

use self::support::{Folder, SOON, Test, raw};

#[tokio::test]
async fn a_request_passes_as_it_is_and_its_response_too() {
    let test = Test::start(|_, _| {}).await;
    let fields = [
        ("accept", "application/json"),
        ("x-own", "a"),
        ("x-own", "b"),
    ];
    let response = test
        .send(Request::put("/api/v1/a%20b?c=d&e=%2f"), &fields)
        .await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(response.headers()["x-end"], "2");
    assert!(!response.headers().contains_key("x-hop"));
    let seen = test.api.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PUT", "/api/v1/a%20b?c=d&e=%2f")
    );
    assert_eq!(seen.all("x-own"), ["a", "b"]);
    assert_eq!(seen.all("accept"), ["application/json"]);
    assert_eq!(seen.all("host"), [test.api.address.to_string()]);
    assert!(
        seen.all("authorization").is_empty(),
        "the token is for the bastion"
    );
}

#[tokio::test]
async fn bodies_pass_in_both_directions_as_they_arrive() {
    let test = Test::start(|_, _| {}).await;
    let (mut sender, connection) = http1::handshake(test.connect().await.unwrap())
        .await
        .unwrap();
    tokio::spawn(connection);
    let (pieces, receiver) = mpsc::unbounded_channel::<&'static str>();
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((
            Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))),
            receiver,
        ))
    });
    let mut request = Request::post("/echo")
        .body(StreamBody::new(Box::pin(body)))
        .unwrap();
    test.authorize(&mut request);
    pieces.send("one").unwrap();
    let response = timeout(SOON, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let mut body = response.into_body();
    for piece in ["two", "three"] {
        let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
        assert!(!frame.into_data().unwrap().is_empty());
        pieces.send(piece).unwrap();
    }
    drop(pieces);
    let rest = timeout(SOON, body.collect())
        .await
        .unwrap()
        .unwrap()
        .to_bytes();
    assert!(rest.ends_with(b"three"));
}

#[tokio::test]
async fn a_watch_arrives_piece_by_piece_and_ends_with_its_client() {
    let test = Test::start(|_, _| {}).await;
    let (mut sender, connection) = http1::handshake(test.connect().await.unwrap())
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::get("/watch")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    test.authorize(&mut request);
    let response = timeout(SOON, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let mut body = response.into_body();
    for piece in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"] {
        test.api.tell(piece);
        let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    test.api.end_watches();
    assert!(timeout(SOON, body.frame()).await.unwrap().is_none());
    connection.abort();
}

#[tokio::test]
async fn an_api_server_that_is_gone_is_a_502_with_a_status() {
    let folder = Folder::new();
    let path = folder.write(
        "k",
        "current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\n\
         clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n",
    );
    let mut config = Config::new(Kubeconfig::load(&path, KubeconfigOptions::default()).unwrap());
    config.listen.set_port(0);
    config.security = Security::Plain;
    config.recordings = folder.0.join("recordings");
    let bastion = Bastion::start(config).await.unwrap();
    let answer = raw(
        bastion.address(),
        "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("\"kind\":\"Status\""), "{answer}");
}

#[tokio::test]
async fn without_tls_the_address_has_to_be_on_loopback() {
    let folder = Folder::new();
    let path = folder.write(
        "k",
        "current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\n\
         clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n",
    );
    let mut config = Config::new(Kubeconfig::load(&path, KubeconfigOptions::default()).unwrap());
    config.listen = "0.0.0.0:0".parse().unwrap();
    config.security = Security::Plain;
    let error = Bastion::start(config).await.unwrap_err().to_string();
    assert!(error.contains("loopback"), "{error}");
}
