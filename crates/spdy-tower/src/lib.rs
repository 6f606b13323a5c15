//! HTTP over SPDY/2, SPDY/3 and SPDY/3.1, on both sides: it serves any [`tower`](tower_service)
//! service, such as an unchanged `axum::Router`, and sends requests.
//!
//! *In scope*: HTTP requests and responses as SPDY carries them ([protocol.md §9]): heads in the
//! form of each version, streaming bodies in both directions with back-pressure, trailers, push,
//! tunnels, failures as HTTP responses or RST_STREAM; and the HTTP/1.1 Upgrade to SPDY/3.1.
//!
//! *Out of scope*: listening, TLS and the choice of a protocol for a server, which `spdy-server`
//! has, and frames, windows and limits, which `spdy-session` has.
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
//! Start with [`Builder`], which makes a [`Connection`] from a transport and a service. A request
//! has a [`Body`], and [`StreamInfo`] in its extensions. The other side is in [`client`].
//!
//! Cargo features, all off by default: `upgrade` is the HTTP/1.1 Upgrade for servers and clients.
//! `client` is a client that makes its own connections; `proxy` adds the proxies that users and the
//! environment name, and `json` reads JSON. `connect` is `client::connect_any` alone. All but
//! `connect` need hyper.
//!
//! # Requests
//!
//! - A request that HTTP does not allow is answered with 400, 414 or 431, and does not reach the
//!   service. Nothing is repaired: every accepted request can be written as HTTP/1.1, and means the
//!   same there.
//! - The URI has the scheme, the host and the path, as with hyper and HTTP/2. Without a scheme
//!   (some clients of SPDY/2) it is the path alone. The host is also in the `host` field, as with
//!   HTTP/1.1. The URI of CONNECT is host and port; the bytes are in a [`Tunnel`], and the body is
//!   empty.
//! - `http::Request::version` is the version that the client names, which is HTTP/1.1 for all known
//!   clients. [`StreamInfo`] has the version of SPDY.
//! - Several cookies become one `cookie` line. Each value of any other field has its own line.
//! - `expect: 100-continue` has no effect: SPDY has no interim responses, and clients send the body
//!   without waiting.
//!
//! # Responses
//!
//! - Fields of a single HTTP/1.1 connection are left out. `content-length` is added if the length
//!   of the body is known. A `content-length` that the application sets is sent unchanged.
//! - Responses to HEAD, and with status 204 or 304, have no body, whatever the service returns. A
//!   status of 1xx is a fault of the service, and becomes 500.
//! - If the service returns an error or panics, the response is 500 too. Once the response has
//!   begun, a failure is RST_STREAM with INTERNAL_ERROR, so no client takes a body that breaks off
//!   for a complete one. The session continues in each case.
//! - When the client gives a request up, its handler is dropped immediately.
//!
//! [protocol.md §9]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#9-http-mapping

#![cfg_attr(docsrs, feature(doc_cfg))]
// Compiles the example in the README.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod body;
pub mod client;
mod http;
mod http1;
#[cfg(feature = "connect")]
mod lookups;
mod patience;
mod protocol;
#[cfg(feature = "connect")]
mod race;
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
#[doc(hidden)]
pub use self::http1::Http1Io;
pub use self::{
    body::{Body, BodyError},
    protocol::Protocol,
    sending::BoxError,
    server::{Builder, Connection, HttpService, MalformedRequest, PushError, Pusher, StreamInfo},
    tunnel::{OnTunnel, Tunnel},
};
