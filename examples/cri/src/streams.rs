//! Exec, Attach and PortForward, as streams.

use std::{sync::Arc, time::Duration};

use spdy_kube::{
    BoxError, Exit, Io,
    cri::{Attach, Exec, Runtime, Server},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{containers::Containers, process};

/// What the streams lead to.
pub(crate) struct Target(Arc<Containers>);

impl Runtime for Target {
    type Connection = TcpStream;

    async fn exec(&self, exec: Exec, io: Io) -> Result<Exit, BoxError> {
        // It may have ended since the URL was handed out.
        self.0.process(&exec.container)?;
        process::run(exec.command, io).await
    }

    async fn attach(&self, attach: Attach, io: Io) -> Result<(), BoxError> {
        self.0.process(&attach.container)?.attach(io).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<TcpStream, BoxError> {
        self.0.sandbox(sandbox)?;
        Ok(TcpStream::connect(("127.0.0.1", port)).await?)
    }
}

/// Serves streams on a port of loopback.
pub(crate) async fn serve(containers: Arc<Containers>) -> Result<Server<Target>, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let drain = spdy_kube::Server::new().drain(Some(Duration::from_secs(10)));
    let server = Server::new(Target(containers), &base)?.streams(drain);
    tokio::spawn(accept(listener, server.clone()));
    Ok(server)
}

async fn accept(listener: TcpListener, server: Server<Target>) {
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
