//! `kubectl exec`, `attach`, `cp` and `port-forward`, over SPDY/3.1.

mod negotiate;
mod options;
pub mod server;
mod status;
mod stdio;
mod token;

pub use self::{
    negotiate::Protocol,
    options::{NoStreams, Options, Streams},
    server::{Server, config},
    status::{BoxError, Exit, Status, StatusError},
    stdio::{Client, Io, Resize, Size, Stdin, Stdout},
    token::{MAX_WAITING, TokenError, Tokens},
};
