//! An axum application over SPDY/3.1, in plain text.
//!
//! Run with `cargo run --release -p spdy-examples --example hello_axum`, then ask for it:
//! `cargo run --release -p spdy-cli -- get --version 3.1 http://127.0.0.1:8080/`. Another address
//! may be given as an argument.

// ANCHOR: program
use axum::{Router, routing::get};
use spdy_tower::{Builder, Version};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/", get(|| async { "Hello over SPDY\n" }));
    let builder = Builder::new();
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:8080")).await?;
    println!("SPDY/3.1 in plain text on {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let connection = builder.serve_connection(socket, Version::V3_1, app.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("session ended early: {error}");
            }
        });
    }
}
// ANCHOR_END: program
