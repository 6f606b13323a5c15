//! The streaming server of a container runtime, whose containers are local processes.
//!
//! Run with `cargo run --release -p spdy-examples --example cri_runtime -- /tmp/runtime.sock`. A
//! runtime gets requests over gRPC, on a socket that only the kubelet can open. Here HTTP takes the
//! place of gRPC, and the response is the URL:
//!
//! ```console
//! curl --unix-socket /tmp/runtime.sock 'http://cri/exec?command=date&stdout=1'
//! ```
//!
//! The program in `examples/cri` has gRPC, and more of what a runtime does.

#[path = "kubelet/process.rs"]
mod process;

use std::{error::Error, fs, io, os::unix::fs::PermissionsExt, time::Duration};

use axum::{Router, extract::RawQuery, http::StatusCode, routing::get};
use spdy_kube::{
    BoxError, Exit, Io, Options,
    cri::{Attach, Exec, PortForward, PrepareError, Runtime, Server},
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    time::sleep,
};

/// Runs commands on this machine, whatever the container.
struct Processes;

impl Runtime for Processes {
    type Connection = TcpStream;

    async fn exec(&self, exec: Exec, io: Io) -> Result<Exit, BoxError> {
        process::run(exec.command, io).await
    }

    async fn attach(&self, _: Attach, io: Io) -> Result<(), BoxError> {
        let command = ["sh", "-c", "echo attached; exec cat"].map(str::to_owned);
        process::run(command.to_vec(), io).await.map(drop)
    }

    async fn port_forward(&self, _sandbox: &str, port: u16) -> Result<TcpStream, BoxError> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?)
    }
}

/// Serves streams on a port of loopback.
async fn streams() -> Result<Server<Processes>, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let drain = spdy_kube::Server::new().drain(Some(Duration::from_secs(10)));
    let server = Server::new(Processes, &base)?
        .streams(drain)
        .on_end(|request, ended| eprintln!("{request:?}: {ended:?}"));
    tokio::spawn(accept(listener, server.clone()));
    Ok(server)
}

async fn accept(listener: TcpListener, server: Server<Processes>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let server = server.clone();
                tokio::spawn(async move { server.serve_connection(socket).await });
            }
            // If no more files can be opened, the next attempt fails at once.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let path = std::env::args().nth(1).ok_or("usage: cri_runtime SOCKET")?;
    let server = streams().await?;
    let socket = bind(&path)?;
    println!("curl --unix-socket {path} 'http://cri/exec?command=date&stdout=1'");
    tokio::select! {
        served = axum::serve(socket, requests(server.clone())) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let left = server
        .shutdown("runtime is shutting down", Duration::from_secs(5))
        .await;
    eprintln!("{left} sessions were broken off");
    Ok(fs::remove_file(path)?)
}

/// Listens on a socket that only this user can open, because it runs commands.
fn bind(path: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

type Url = Result<String, (StatusCode, String)>;

/// The requests that come over gRPC elsewhere.
fn requests(server: Server<Processes>) -> Router {
    let (exec, attach, forward) = (server.clone(), server.clone(), server);
    let exec = move |RawQuery(query): RawQuery| async move {
        let Options {
            command, streams, ..
        } = options(query)?;
        url(exec.prepare_exec(Exec {
            container: "c1".to_owned(),
            command,
            streams,
        }))
    };
    let attach = move |RawQuery(query): RawQuery| async move {
        url(attach.prepare_attach(Attach {
            container: "c1".to_owned(),
            streams: options(query)?.streams,
        }))
    };
    let forward = move || async move {
        url(forward.prepare_port_forward(PortForward {
            sandbox: "s1".to_owned(),
            ports: Vec::new(),
        }))
    };
    Router::new()
        .route("/exec", get(exec))
        .route("/attach", get(attach))
        .route("/portforward", get(forward))
}

fn options(query: Option<String>) -> Result<Options, (StatusCode, String)> {
    Options::from_query(&query.unwrap_or_default())
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))
}

fn url(prepared: Result<String, PrepareError>) -> Url {
    let refused = |error| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    prepared.map(|url| format!("{url}\n")).map_err(refused)
}
