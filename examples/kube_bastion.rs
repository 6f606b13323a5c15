//! A bastion that records commands, in front of an API server or a kubelet without TLS.
//!
//! Run with `cargo run --release -p spdy-examples --example kube_bastion -- 127.0.0.1:8002
//! 127.0.0.1:8001`, where the example `kubelet` listens on the second address, and then `kubectl
//! --server http://127.0.0.1:8002 exec -it demo -- sh`. Each command is recorded in a file such as
//! `1780000000000000000.cast`, which asciinema plays, and `spdy-bastion play`. A command that
//! cannot be recorded ends.

#[path = "kubelet/listener.rs"]
mod listener;

use axum::{Router, body::Body, extract::Request};
use axum::{http, response::IntoResponse, response::Response};
use hyper_util::rt::TokioIo;
use spdy_kube::{Asciicast, BoxError, Options, Origins, Relay, Server, client};
use tokio::net::{TcpListener, TcpStream};

async fn streams(mut request: Request, server: &str) -> Result<Response, BoxError> {
    let uri = request.uri().clone();
    let onward = client::request(&format!("http://{server}{uri}").parse()?);
    let connect = || async { TcpStream::connect(server).await.map(TokioIo::new) };
    let relay = Relay::new(Server::new(), client::Client::new(connect));
    if uri.path().ends_with("/portforward") {
        let response = relay.port_forward(&mut request, onward, ()).await;
        return Ok(response.into_response());
    }
    let streams = Options::from_query(uri.query().unwrap_or_default())?.streams;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
    let file = tokio::fs::File::create_new(format!("{now}.cast")).await?;
    let (tap, _written) = Asciicast::new().fail_closed(true).record(file);
    let response = match uri.path().ends_with("/attach") {
        true => relay.attach(&mut request, onward, streams, tap).await,
        false => relay.exec(&mut request, onward, streams, tap).await,
    };
    Ok(response.into_response())
}

async fn plain(request: Request, server: &str) -> Result<Response, BoxError> {
    let transport = TokioIo::new(TcpStream::connect(server).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(transport).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(Body::new))
}

async fn answer(request: Request, server: String) -> Response {
    if let Err(refusal) = Origins::same_host().check(&request) {
        return refusal.into_response().into_response();
    }
    let answered = match request.headers().contains_key(http::header::UPGRADE) {
        true => streams(request, &server).await,
        false => plain(request, &server).await,
    };
    answered
        .unwrap_or_else(|error| (http::StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let usage = "usage: kube_bastion LISTEN SERVER";
    let listen = std::env::args().nth(1).ok_or(usage)?;
    let server = std::env::args().nth(2).ok_or(usage)?;
    let app = Router::new().fallback(move |request: Request| answer(request, server.clone()));
    let listener = TcpListener::bind(listen).await?;
    println!(
        "kubectl --server http://{} exec demo -- id",
        listener.local_addr()?
    );
    Ok(axum::serve(listener::Listener(listener), app).await?)
}
