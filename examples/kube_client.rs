//! Runs a command in a pod: `kube_client URL COMMAND...`, where the URL is that of exec.
//!
//! Run with `cargo run --release -p spdy-examples --example kube_client --
//! http://127.0.0.1:8001/api/v1/namespaces/default/pods/demo/exec cat`, where the example `kubelet`
//! listens on that port. It asks for WebSocket, and for SPDY if the server refuses that. Without a
//! command it asks for the URL as it is, such as one of the example `kube_runtime`.

use std::process::exit;

use hyper_util::rt::TokioIo;
use spdy_kube::{BoxError, Options, Status, Streams, client};
use tokio::{io, net::TcpStream};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let mut url = arguments
        .next()
        .ok_or("usage: kube_client URL COMMAND...")?;
    let mut options = Options::default();
    options.command = arguments.collect();
    options.streams = Streams::PIPES;
    if !options.command.is_empty() {
        url = format!("{url}?{}", options.to_query());
    }
    let url: http::Uri = url.parse()?;
    let server = url.authority().ok_or("the URL names no host")?.as_str();
    let connect = || async { TcpStream::connect(server).await.map(TokioIo::new) };
    let client = client::Client::new(connect);
    let remote = client.exec(client::request(&url), options.streams).await?;
    let outcome = remote.copy(io::stdin(), io::stdout(), io::stderr()).await?;
    eprintln!("{outcome}");
    // The thread that reads the input would delay a return.
    exit(i32::from(outcome != Status::Success))
}
