//! A streaming server of a container runtime, whose containers are local processes.
//!
//! Run with `cargo run --release -p spdy-examples --example kube_runtime -- date`. It prints a URL
//! for the command, such as the gRPC service of a runtime returns. It works once, for example with
//! the example `kube_client`. The example `cri_runtime` has more: attach, a drain, and requests for
//! URLs over a socket.

// ANCHOR: program
use std::process::Stdio;

use spdy_kube::cri::{Exec, Runtime, Server};
use spdy_kube::{BoxError, Exit, Io, Streams};
use tokio::net::{TcpListener, TcpStream};

struct Processes;

impl Runtime for Processes {
    type Connection = TcpStream;

    async fn exec(&self, exec: Exec, mut io: Io) -> Result<Exit, BoxError> {
        let mut command = tokio::process::Command::new(&exec.command[0]);
        command.args(&exec.command[1..]).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        Ok(io.run(stdin, stdout, stderr, child.wait()).await?.into())
    }

    async fn port_forward(&self, _sandbox: &str, port: u16) -> Result<TcpStream, BoxError> {
        Ok(TcpStream::connect(("127.0.0.1", port)).await?)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = Server::new(Processes, &format!("http://{}", listener.local_addr()?))?;
    let url = server.prepare_exec(Exec {
        container: "c0ffee".to_owned(),
        command: std::env::args().skip(1).collect(),
        streams: Streams::PIPES,
    })?;
    println!("{url}");
    loop {
        let (socket, server) = (listener.accept().await?.0, server.clone());
        tokio::spawn(async move { server.serve_connection(socket).await });
    }
}
// ANCHOR_END: program
