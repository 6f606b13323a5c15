//! Layers, server-sent events and WebSocket over one port.

mod support;

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use http_body_util::BodyExt;
use spdy_tower::Protocol;
use support::{Running, SPDY};
use tokio::{net::TcpStream, process::Command};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// Writes a certificate as PEM, and returns the name of the file.
fn pem(running: &Running) -> std::path::PathBuf {
    let name = format!("spdy-web-{}.pem", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text = base64(&running.certificate);
    let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(&path, text).unwrap();
    path
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum, index| {
            sum << 8 | u32::from(piece.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            let digit = char::from(DIGITS[(number >> (18 - 6 * index)) as usize & 63]);
            text.push(if index <= piece.len() { digit } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn the_client_with_layers_follows_inflates_and_parses() {
    let running = Running::new().await;
    let trusted = pem(&running);
    let output = Command::new(env!("CARGO_BIN_EXE_client_layers"))
        .arg(format!("{}/old", running.uri))
        .arg(&trusted)
        .env("NO_PROXY", "*")
        .output()
        .await
        .unwrap();
    std::fs::remove_file(trusted).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "200 OK over Some(Spdy(V3_1))\n10000 numbers\n");
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.ends_with("\r48903 bytes"), "{progress}");
}

/// An event arrives before there is another one.
#[tokio::test]
async fn each_event_arrives_when_it_happens() {
    let running = Running::new().await;
    for protocol in [SPDY[0], SPDY[1], Protocol::Http2, Protocol::Http1] {
        let client = running.client(protocol);
        // ANCHOR: events
        let response = client.get(format!("{}/events", running.uri)).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = response.into_body();
        for piece in ["one", "two", "three"] {
            running.news.send(piece.to_owned()).unwrap();
            let mut event = Vec::new();
            while !event.ends_with(b"\n\n") {
                let frame = events.frame().await.unwrap().unwrap();
                event.extend_from_slice(&frame.into_data().unwrap());
            }
            let expected = format!("data: {piece}\n\n");
            assert_eq!(String::from_utf8(event).unwrap(), expected, "{protocol}");
        }
        // ANCHOR_END: events
    }
}

#[tokio::test]
async fn a_websocket_uses_the_port_of_spdy() {
    let running = Running::new().await;
    let uri: Uri = running.uri.parse().unwrap();
    // ANCHOR: websocket
    let mut tls = running.tls();
    tls.alpn_protocols = vec![Protocol::Http1.alpn().to_vec()];
    let socket = TcpStream::connect(("127.0.0.1", uri.port_u16().unwrap()));
    let name = ServerName::try_from("localhost").unwrap();
    let io = TlsConnector::from(Arc::new(tls)).connect(name, socket.await.unwrap());
    let target = format!("{}/echo", running.uri.replacen("https", "wss", 1));
    let (mut socket, _) = client_async(target, io.await.unwrap()).await.unwrap();

    let client = running.client(SPDY[1]);
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        let echo = socket.next().await.unwrap().unwrap();
        assert_eq!(echo.into_text().unwrap().as_str(), text);
        let page = client
            .get(format!("{}/numbers", running.uri))
            .await
            .unwrap();
        assert_eq!(page.extensions().get(), Some(&SPDY[1]));
    }
    // ANCHOR_END: websocket
}
