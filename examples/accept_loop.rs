//! An accept loop of one's own, with TLS by rustls: SPDY, HTTP/2 and HTTP/1.1 on one port, as ALPN
//! selects them. [`auto::Builder`] serves what the loop has accepted, which might also come from a
//! Unix socket or a pipe.
//!
//! Run with `cargo run --release -p spdy-examples --example accept_loop`, then ask for it:
//! `curl --insecure https://localhost:8443/`.

use std::{error::Error, sync::Arc};

use axum::{Router, routing::get};
use spdy_server::{Protocol, auto, rustls, tokio_rustls::TlsAcceptor};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;
    serve(TcpListener::bind("127.0.0.1:8443").await?, config).await
}

// ANCHOR: serve
pub(crate) async fn serve(
    listener: TcpListener,
    mut config: rustls::ServerConfig,
) -> Result<(), Box<dyn Error>> {
    config.alpn_protocols = Protocol::ALL.map(|it| it.alpn().to_vec()).into();
    let tls = TlsAcceptor::from(Arc::new(config));
    let app = Router::new().route("/", get(|| async { "Hello from a loop\n" }));
    let builder = auto::Builder::new();
    loop {
        let (socket, _) = listener.accept().await?;
        let (tls, app, builder) = (tls.clone(), app.clone(), builder.clone());
        tokio::spawn(async move {
            let io = tls.accept(socket).await?;
            builder.serve_tls_connection(io, app).await
        });
    }
}
// ANCHOR_END: serve
