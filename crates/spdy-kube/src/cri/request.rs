//! The requests of CRI, and what it forbids.

use std::fmt;

use crate::{InvalidPorts, NoStreams, Ports, Streams, TokenError};

/// `ExecRequest` of CRI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The id of the container.
    pub container: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The streams.
    pub streams: Streams,
}

/// `AttachRequest` of CRI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// The id of the container.
    pub container: String,
    /// The streams.
    pub streams: Streams,
}

/// `PortForwardRequest` of CRI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortForward {
    /// The id of the sandbox.
    pub sandbox: String,
    /// The ports, which only clients over WebSocket without SPDY need. Others name them later.
    pub ports: Vec<i32>,
}

/// A request for a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Run a command.
    Exec(Exec),
    /// Join a process.
    Attach(Attach),
    /// Connect to ports.
    PortForward(PortForward),
}

/// A request that was checked.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: Request,
    /// The ports, if a request for port-forward names them.
    pub(super) ports: Option<Ports>,
}

impl Prepared {
    /// Checks a request, as the servers of Kubernetes do.
    pub(super) fn new(request: Request) -> Result<Self, PrepareError> {
        let ports = match &request {
            Request::Exec(exec) => {
                check(&exec.container, exec.streams)?;
                if exec.command.first().is_none_or(String::is_empty) {
                    return Err(PrepareError::NoCommand);
                }
                None
            }
            Request::Attach(attach) => {
                check(&attach.container, attach.streams)?;
                None
            }
            Request::PortForward(forward) => {
                if forward.sandbox.is_empty() {
                    return Err(PrepareError::NoSandbox);
                }
                parse(&forward.ports)?
            }
        };
        Ok(Self { request, ports })
    }
}

/// Checks what exec and attach have in common.
const fn check(container: &str, streams: Streams) -> Result<(), PrepareError> {
    if container.is_empty() {
        return Err(PrepareError::NoContainer);
    }
    if streams.tty && streams.stderr {
        return Err(PrepareError::TtyWithStderr);
    }
    if streams.is_empty() {
        return Err(PrepareError::NoStreams);
    }
    Ok(())
}

fn parse(ports: &[i32]) -> Result<Option<Ports>, PrepareError> {
    if ports.is_empty() {
        return Ok(None);
    }
    let parse =
        |port: &i32| u16::try_from(*port).map_err(|_| InvalidPorts::NotAPort(port.to_string()));
    let ports: Result<Vec<_>, _> = ports.iter().map(parse).collect();
    Ok(Some(ports.and_then(Ports::new)?))
}

/// Why a request gets no URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrepareError {
    /// The request names no container.
    NoContainer,
    /// The request names no sandbox.
    NoSandbox,
    /// The request has neither stdin, stdout nor stderr.
    NoStreams,
    /// A terminal has no stderr of its own.
    TtyWithStderr,
    /// The command is empty.
    NoCommand,
    /// A port is not one, or there are too many.
    Ports(InvalidPorts),
    /// Too many URLs wait, or the system provides no random numbers.
    Token(TokenError),
    /// The server is shutting down.
    ShuttingDown,
}

impl PrepareError {
    /// Returns the code of the error over gRPC, such as 3 for `InvalidArgument`.
    #[must_use]
    pub const fn grpc_code(&self) -> i32 {
        match self {
            Self::NoContainer
            | Self::NoSandbox
            | Self::NoStreams
            | Self::TtyWithStderr
            | Self::NoCommand
            | Self::Ports(_) => INVALID_ARGUMENT,
            Self::Token(TokenError::TooMany) => RESOURCE_EXHAUSTED,
            Self::Token(TokenError::NoRandom) => INTERNAL,
            Self::ShuttingDown => UNAVAILABLE,
        }
    }
}

impl From<InvalidPorts> for PrepareError {
    fn from(error: InvalidPorts) -> Self {
        Self::Ports(error)
    }
}

impl From<TokenError> for PrepareError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainer => f.write_str("missing required container_id"),
            Self::NoSandbox => f.write_str("missing required pod_sandbox_id"),
            Self::NoStreams => NoStreams.fmt(f),
            Self::TtyWithStderr => f.write_str("tty and stderr cannot both be true"),
            Self::NoCommand => f.write_str("missing required cmd"),
            Self::Ports(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
            Self::ShuttingDown => f.write_str("server is shutting down"),
        }
    }
}

impl std::error::Error for PrepareError {}

const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
