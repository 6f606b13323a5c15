//! What a container runtime implements.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Attach, Exec};
use crate::{BoxError, Exit, Io};

/// The containers of a runtime. [`Server`](super::Server) calls it for each URL that is used.
///
/// Each future is dropped when its session has to end: when its client is gone and the grace is
/// over, when the session is idle, or at a shutdown. So what it has started must end when it is
/// dropped: let it own a process through a guard that kills it.
pub trait Runtime: Send + Sync + 'static {
    /// A connection to a port of a sandbox.
    type Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Runs a command in a container, and returns its exit code. [`Io::run`] copies its streams.
    ///
    /// # Errors
    ///
    /// Return an error if the command cannot be run. The client gets its text.
    fn exec(&self, exec: Exec, io: Io) -> impl Future<Output = Result<Exit, BoxError>> + Send;

    /// Joins the streams of a container's process, until its outputs have ended. By default it is
    /// not possible.
    ///
    /// # Errors
    ///
    /// Return an error if that is not possible. The client gets its text.
    fn attach(&self, attach: Attach, io: Io) -> impl Future<Output = Result<(), BoxError>> + Send {
        drop(io);
        let container = attach.container;
        async move { Err(format!("attaching to container {container} is not supported").into()) }
    }

    /// Connects to a port of a sandbox.
    ///
    /// # Errors
    ///
    /// Return an error if that is not possible. The client gets its text.
    fn port_forward(
        &self,
        sandbox: &str,
        port: u16,
    ) -> impl Future<Output = Result<Self::Connection, BoxError>> + Send;
}
