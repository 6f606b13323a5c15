//! A container runtime that `crictl` and a kubelet can talk to, over gRPC on a Unix socket. Its
//! containers are local processes, and images are only names: what is interesting is how Exec,
//! Attach and PortForward become streams, by [`spdy_kube::cri::Server`] in `streams.rs`.
//!
//! Run with `cargo run --release -- /tmp/cri.sock` in this folder, and then
//! `crictl --runtime-endpoint unix:///tmp/cri.sock version`.
//!
//! It runs the commands of every client that can open its socket, as you on this machine. It is for
//! demonstration and tests.

mod containers;
mod images;
#[path = "../../kubelet/process.rs"]
mod process;
mod service;
mod streams;

/// The interface, generated from `cri.proto`.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

use std::{fs, io, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use spdy_kube::BoxError;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use self::{
    containers::Containers,
    images::Images,
    service::Service,
    v1::{image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let path = std::env::args().nth(1).ok_or("usage: cri-runtime SOCKET")?;
    let containers = Arc::new(Containers::default());
    let streams = streams::serve(Arc::clone(&containers)).await?;
    let socket = bind(&path)?;
    println!("crictl --runtime-endpoint unix://{path} version");
    let service = Service::new(Arc::clone(&containers), streams.clone());
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let served = Server::builder()
        .add_service(RuntimeServiceServer::new(service))
        .add_service(ImageServiceServer::new(Images))
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop)
        .await;
    let wait = Duration::from_secs(5);
    let left = streams.shutdown("runtime is shutting down", wait).await;
    eprintln!("{left} sessions were broken off");
    containers.stop_all();
    fs::remove_file(&path)?;
    Ok(served?)
}

/// Listens on a socket that only this user can open.
fn bind(path: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
