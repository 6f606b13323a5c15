//! HTTP/1.1 Upgrade to SPDY/3.1, as a server and as a client ([protocol.md §3.5]).
//!
//! Kubernetes opens its streams in this way: a request with `connection: upgrade` and `upgrade:
//! SPDY/3.1`, a response with status 101, and then SPDY frames on the same transport. The request
//! itself is not a stream.
//!
//! A handler of `axum` or `hyper` accepts one with [`accept`]:
//!
//! ```
//! use axum::extract::Request;
//! use http::Response;
//! use spdy_tower::upgrade;
//!
//! async fn streams(mut request: Request) -> Response<String> {
//!     let (response, upgraded) = match upgrade::accept(&mut request) {
//!         Ok(accepted) => accepted,
//!         Err(error) => return error.into_response(),
//!     };
//!     tokio::spawn(async move {
//!         let (_session, mut incoming, driver) = upgraded.server(upgrade::config()).await?;
//!         tokio::spawn(driver);
//!         while let Some(stream) = incoming.accept().await {
//!             // Answer it.
//!         }
//!         std::io::Result::Ok(())
//!     });
//!     response
//! }
//! ```
//!
//! A client sends [`request`] with [`connect`]. Further negotiation, such as
//! `x-stream-protocol-version`, uses headers of this request and its response, which the caller
//! sets.
//!
//! [protocol.md §3.5]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#35-http11-upgrade-the-kubernetes-form

mod client;
mod server;

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, UPGRADE},
};
use hyper_util::rt::TokioIo;
use spdy_session::{Config, FlowControl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "client")]
pub(crate) use self::client::{connect_at_once, switch};
pub use self::{
    client::{ConnectError, MAX_REFUSAL, connect, connect_to, request},
    server::{OnSession, UpgradeError, accept},
};
use crate::http::list::has_token;

/// Returns the configuration for peers that upgrade, which use SPDY as a plain multiplexer. It has
/// [`FlowControl::Off`], because these peers implement no windows, and timeouts for sessions that
/// are idle for hours.
///
/// Then a stream that is not read stops all other streams of its session. Read every stream, or
/// drop it.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::default();
    config.flow_control = FlowControl::Off;
    // `kubectl port-forward` opens its first streams only when a program connects to it.
    config.timeouts.first_frame = None;
    config.timeouts.idle = Some(IDLE);
    config
}

/// The transport of an upgraded request. Bytes that arrived with the head are read first.
pub struct Upgraded(TokioIo<hyper::upgrade::Upgraded>);

impl Upgraded {
    fn new(io: hyper::upgrade::Upgraded) -> Self {
        Self(TokioIo::new(io))
    }

    /// The transport of hyper, for `downcast`. Its parts contain bytes that were read already.
    #[must_use]
    pub fn into_inner(self) -> hyper::upgrade::Upgraded {
        self.0.into_inner()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

/// Returns whether the head of a request or of a response switches the connection to SPDY/3.1.
fn is_agreed(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, TOKEN)
}

/// Sets the fields that switch the connection to SPDY/3.1.
fn agree(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(TOKEN));
}

/// The name of SPDY/3.1 in an `upgrade` field.
const TOKEN: &str = "SPDY/3.1";

/// How long a session may be idle without a stream, as with the servers of Kubernetes.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
