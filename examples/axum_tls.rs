//! An axum application over SPDY, HTTP/2 and HTTP/1.1 on one port with TLS. The server makes its
//! certificate at start, and drains on Control-C.
//!
//! Run with `cargo run --release -p spdy-examples --example axum_tls`, then ask for it:
//! `curl --insecure https://localhost:8443/` or
//! `cargo run --release -p spdy-cli -- get --insecure https://localhost:8443/`.

// ANCHOR: program
use axum::{Router, routing::get};
use spdy_server::{Config, Server, Signals};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::bind(Config::default()).await?;
    println!("{}", server.endpoints()[0]);
    serve(server).await
}

pub(crate) async fn serve(server: Server) -> Result<(), Box<dyn std::error::Error>> {
    let app = Router::new().route("/", get(|| async { "Hello over everything\n" }));
    let _drained = server.run(app, Signals::new()?.next()).await;
    Ok(())
}
// ANCHOR_END: program
