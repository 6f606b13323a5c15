//! HTTP/1.1 that becomes SPDY/3.1: an axum server with one route for it, and a client that asks for
//! it.
//!
//! Run with `cargo run --release -p spdy-examples --example upgrade`.

use std::{error::Error, io};

use axum::{Router, extract::Request, http::Response, routing::get};
use spdy_session::{HeaderBlock, OpenOptions, PendingStream, Shutdown, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get(async || "HTTP/1.1, as ever\n"))
        .route("/streams", get(streams));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    // The client. A path that does not upgrade answers like any other.
    for path in ["/", "/streams"] {
        let request = upgrade::request(&format!("http://{address}{path}").parse()?);
        let transport = TcpStream::connect(address).await?;
        let (head, transport) = match upgrade::connect(transport, request).await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                println!("{path}: {error}");
                continue;
            }
        };
        println!("{path}: {}", head.status());
        let (session, _incoming, driver) =
            spdy_session::client(transport, Version::V3_1, upgrade::config());
        tokio::spawn(driver);
        let headers = HeaderBlock::from_pairs([("name", "echo")])?;
        let mut stream = session.open(headers, OpenOptions::default()).await?;
        stream.write_all(b"hello over a stream").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        println!("{path}: {answer}");
        session.shutdown(Shutdown::Graceful { deadline: None });
        session.closed().await?;
    }
    Ok(())
}

// ANCHOR: accept
/// Upgrades, and answers every stream with what it brings.
async fn streams(mut request: Request) -> Response<String> {
    let (response, upgraded) = match upgrade::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(error) => return error.into_response(),
    };
    tokio::spawn(async move {
        let (_session, mut incoming, driver) = upgraded.server(upgrade::config()).await?;
        tokio::spawn(driver);
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(echo(stream));
        }
        io::Result::Ok(())
    });
    response
}

async fn echo(stream: PendingStream) -> io::Result<()> {
    let mut stream = stream.send_reply(HeaderBlock::new())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}
// ANCHOR_END: accept
