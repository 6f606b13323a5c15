//! Connections of TLS, one after the other, each until the first byte of the server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::HandshakeKind;

use crate::{Failure, transport};

/// Makes this many connections, whose handshakes have to be all `full` or all `resumed`.
pub(crate) async fn run(
    protocol: &str,
    address: SocketAddr,
    count: usize,
    how: &str,
) -> Result<(), Failure> {
    let (token, greeting) = match protocol {
        "spdys" => (Some("spdy/3.1"), SPDY),
        "h2s" => (Some("h2"), HTTP2),
        "raws" => (None, RAW),
        _ => return Err(format!("no handshakes of {protocol}").into()),
    };
    let resumes = match how {
        "full" => false,
        "resumed" => true,
        _ => return Err("a handshake is full or resumed".into()),
    };
    let connector = transport::connector(token, resumes)?;
    // The first handshake of all is full.
    for number in 0..count + usize::from(resumes) {
        let mut io = transport::tls(&connector, address).await?;
        let tls = io.get_ref().1;
        if tls.alpn_protocol() != token.map(str::as_bytes) {
            return Err(format!("the server does not speak {protocol}").into());
        }
        let was_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        if was_resumed != (resumes && number > 0) {
            return Err(format!("handshake {number} was not {how}").into());
        }
        io.write_all(greeting).await?;
        // With it come the tickets for the next handshakes.
        io.read_u8().await?;
        io.shutdown().await?;
    }
    println!("done");
    Ok(())
}

/// A PING.
const SPDY: &[u8] = b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x01";
/// The preface with an empty SETTINGS.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A request without a body, for one byte.
const RAW: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
