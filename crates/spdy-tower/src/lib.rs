//! HTTP over SPDY/2, SPDY/3 and SPDY/3.1, from both ends: serves any [`tower`](tower_service)
//! service, `axum::Router` unchanged, and sends requests.
//!
//! *In scope*: HTTP requests and responses as SPDY carries them ([protocol.md §9]): their heads in
//! the form of each version, bodies that stream both ways with back-pressure, trailers, push,
//! tunnels, failures told as HTTP or as RST_STREAM; and the HTTP/1.1 Upgrade to SPDY/3.1.
//!
//! *Out of scope*: listening, TLS and the choice of a protocol as a server (`spdy-server` has
//! them), and everything about frames, windows and limits (`spdy-session`).
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use spdy_tower::{Builder, Version};
//! use tokio::net::TcpListener;
//!
//! # async fn serve() -> std::io::Result<()> {
//! let app = Router::new().route("/", get(|| async { "Hello over SPDY" }));
//! let builder = Builder::new();
//!
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! loop {
//!     let (socket, _) = listener.accept().await?;
//!     let connection = builder.serve_connection(socket, Version::V3_1, app.clone());
//!     tokio::spawn(async move {
//!         if let Err(error) = connection.await {
//!             eprintln!("session ended early: {error}");
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! Start with [`Builder`]: it makes a [`Connection`] of a transport and a service. Requests come
//! with a [`Body`], and with [`StreamInfo`] among their extensions. The other end is in [`client`].
//!
//! Cargo features, none of them on by default: `upgrade` for HTTP/1.1 Upgrade as server and client,
//! `client` for a client that connects by itself. Both need hyper.
//!
//! # Requests
//!
//! - What HTTP does not allow is answered with 400, 414 or 431 and never reaches the service.
//!   Nothing is repaired: every request that is accepted can be written as HTTP/1.1 and reads as
//!   the same request there.
//! - The URI holds scheme, host and path, as with hyper and HTTP/2; without a scheme (some clients
//!   of SPDY/2) it is the path alone. The host is in the `host` field too, as with HTTP/1.1. The
//!   URI of CONNECT is host and port; its bytes are in a [`Tunnel`], and its body is empty.
//! - `http::Request::version` is what the client names: HTTP/1.1 from all clients known.
//!   [`StreamInfo`] has the version of SPDY.
//! - Several cookies become one `cookie` line; of every other field each value has a line of its
//!   own.
//! - `expect: 100-continue` needs nothing: SPDY has no interim responses, and clients send the body
//!   at once.
//!
//! # Responses
//!
//! - Fields of a single HTTP/1.1 connection are left out. `content-length` is added where the
//!   length of the body is known; one that the application sets is sent as it is.
//! - Responses to HEAD and with status 204 or 304 have no body, whatever the service gives. A
//!   status of 1xx is a mistake of the service: 500.
//! - A service that gives an error or panics is a 500 too. Once the response has begun, a failure
//!   is RST_STREAM with INTERNAL_ERROR: no client takes a cut body for a whole one. The session
//!   goes on in each case.
//! - When the client gives up, the handler is dropped where it stands.
//!
//! [protocol.md §9]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#9-http-mapping

#![cfg_attr(docsrs, feature(doc_cfg))]
// The example of the page is compiled.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod body;
pub mod client;
mod http;
mod patience;
mod protocol;
mod sending;
mod server;
mod tunnel;
#[cfg(feature = "upgrade")]
pub mod upgrade;

pub use spdy_frame::{Priority, StreamId, Version};
pub use spdy_session as session;

#[doc(hidden)]
pub use self::http::{
    framing::{is_bodyless, remove_false_length},
    list::{is_hop_by_hop, tokens},
    read_request::is_authority,
};
pub use self::{
    body::{Body, BodyError},
    protocol::Protocol,
    sending::BoxError,
    server::{Builder, Connection, HttpService, MalformedRequest, PushError, Pusher, StreamInfo},
    tunnel::{OnTunnel, Tunnel},
};
