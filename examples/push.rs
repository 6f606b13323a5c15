//! Server push: a page that brings its style sheet along, and a client that takes it.
//!
//! Run with `cargo run --release -p spdy-examples --example push`.

use std::error::Error;

use axum::{
    Router,
    extract::Request,
    http::{Response, header::CONTENT_TYPE},
    response::Html,
    routing::get,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use spdy_session::Config;
use spdy_tower::{Builder, Pusher, Version, client};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get(page))
        .route("/style.css", get(async || STYLE));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(Builder::new().serve_connection(socket, Version::V3_1, app.clone()));
        }
    });

    // Pushes are refused by a client that does not ask for them.
    let transport = TcpStream::connect(address).await?;
    let mut config = Config::default();
    config.accept_push = true;
    let (requests, mut pushes, driver) = client::handshake(transport, Version::V3_1, config);
    tokio::spawn(driver);

    let request = http::Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new())?;
    let response = requests.send(request).await?;
    let Some(pushed) = pushes.next().await else {
        return Err("the session has ended without a push".into());
    };
    println!("pushed: {}", pushed.request().uri());
    let style = pushed
        .response()
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    println!("{}", String::from_utf8_lossy(&style));
    let page = response.into_body().collect().await?.to_bytes();
    println!("page:\n{}", String::from_utf8_lossy(&page));
    Ok(())
}

async fn page(request: Request) -> Html<&'static str> {
    if let Some(pusher) = Pusher::of(&request) {
        let style = Response::builder()
            .header(CONTENT_TYPE, "text/css")
            .body(STYLE.to_owned());
        // A push that is not made is no loss: the client asks for the style by itself.
        _ = pusher.push("/style.css", style.expect("the head is sound"));
    }
    Html("<link rel=stylesheet href=/style.css><p>Hello")
}

const STYLE: &str = "p { color: navy }";
