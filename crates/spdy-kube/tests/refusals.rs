//! Requests that the server refuses.

mod support;

use http::StatusCode;
use spdy_kube::{Exit, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::support::{connect, exec_server, forward_server};

const OUT: &str = "/exec?command=x&stdout=true";

#[tokio::test]
async fn without_a_protocol_there_is_no_upgrade() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let refusal = connect(address, OUT, &[]).await.err().unwrap();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
    assert!(refusal.body().starts_with(b"unable to upgrade"));
    let address = forward_server(Server::new()).await;
    let refusal = connect(address, "/forward", &[]).await.err().unwrap();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_a_common_protocol_the_supported_ones_are_named() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let refusal = connect(address, OUT, &["v5.channel.k8s.io"]).await;
    let refusal = refusal.err().unwrap();
    assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    let accepted = refusal
        .headers()
        .get_all("x-accepted-stream-protocol-versions");
    assert_eq!(accepted.iter().count(), 4);
    let address = forward_server(Server::new()).await;
    let refusal = connect(address, "/forward", &["v4.channel.k8s.io"]).await;
    let refusal = refusal.err().unwrap();
    assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        &refusal.body()[..],
        b"unable to upgrade: unable to negotiate protocol: client supports [v4.channel.k8s.io], \
          server accepts [portforward.k8s.io]"
    );
}

#[tokio::test]
async fn without_streams_there_is_nothing_to_run() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let refusal = connect(address, "/exec?command=x", &["v4.channel.k8s.io"]).await;
    let refusal = refusal.err().unwrap();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_request_that_does_not_ask_to_upgrade_is_refused() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    for headers in ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {OUT} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
}
