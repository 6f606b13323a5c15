//! Serves, requests and relays `kubectl exec`, `attach`, `cp` and `port-forward`, over SPDY/3.1 and
//! over WebSocket.
//!
//! *In scope*: the upgrade and the choice of a protocol, the streams of commands and of forwarded
//! connections, the outcome that the client gets, the tokens in the URLs of a container runtime.
//! *Out of scope*: sockets and TLS, authorization, and containers themselves. A program provides
//! these, and an HTTP/1.1 server on hyper such as axum's. Authorization is important here: any page
//! in a browser can open a WebSocket to a server on loopback, so check requests at least with
//! [`Origins`].
//!
//! This server handles `kubectl exec` and `cp` of every version, by running commands on its own
//! machine:
//!
//! ```no_run
//! use std::process::Stdio;
//!
//! use axum::{Router, extract::Request, http::Response, routing::any};
//! use spdy_kube::{BoxError, Exit, Io, Options, Origins, Server, Status};
//! use tokio::{net::TcpListener, process::Command};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new().route("/api/v1/namespaces/{namespace}/pods/{pod}/exec", any(exec));
//!     axum::serve(TcpListener::bind("127.0.0.1:8001").await?, app).await
//! }
//!
//! async fn exec(mut request: Request) -> Response<String> {
//!     if let Err(refusal) = Origins::same_host().check(&request) {
//!         return refusal.into_response();
//!     }
//!     match Options::from_query(request.uri().query().unwrap_or_default()) {
//!         Ok(Options { command, streams, .. }) => {
//!             Server::new().exec(&mut request, streams, |io| run(command, io))
//!         }
//!         Err(error) => Status::bad_request(error.to_string()).into_response(),
//!     }
//! }
//!
//! async fn run(command: Vec<String>, mut io: Io) -> Result<Exit, BoxError> {
//!     let (program, arguments) = command.split_first().ok_or("no command")?;
//!     let mut child = Command::new(program)
//!         .args(arguments)
//!         .stdin(Stdio::piped())
//!         .stdout(Stdio::piped())
//!         .stderr(Stdio::piped())
//!         .kill_on_drop(true)
//!         .spawn()?;
//!     io.copy(child.stdin.take(), child.stdout.take(), child.stderr.take()).await?;
//!     Ok(child.wait().await?.into())
//! }
//! ```
//!
//! kubectl also requests the pod before it runs a command in it. The example `kubelet` of the
//! workspace answers that request too. It also gives commands a terminal, attaches, and forwards
//! ports; kubectl works with it alone.
//!
//! - [`Server`] answers requests for exec, attach and port-forward. For each request the program
//!   passes a closure that does the work.
//! - [`Io`] has the streams of a command: input and outputs, which are `AsyncRead` and
//!   `AsyncWrite`, the sizes of the terminal, and a signal that the client is gone.
//! - [`Origins`] rejects requests that come from pages in a browser.
//! - [`cri::Server`] is the streaming server of a container runtime. It hands out URLs for requests
//!   over gRPC, serves them, limits idle time, and ends sessions with a reason. [`Tokens`] are the
//!   tokens in such URLs.
//! - [`Explained`] is a transport for hyper, below which a command line that is too long gets a
//!   message.
//! - [`client`] is the other side, for tools. It asks for WebSocket first, and for SPDY if the
//!   server refuses WebSocket. A [`Relay`] stands between a client and a server, for example on a
//!   bastion host. It translates between the protocols of both, and can record and end sessions.
//!   [`Asciicast`] records them for players of terminals. [`relay`](relay()) passes SPDY on without
//!   changes.
//!
//! # What you can rely on
//!
//! - The end of an input is never invented. If the client is gone, reading the input fails. The end
//!   of an output never arrives before the bytes that were written to it. The client gets the
//!   outcome after both outputs have ended, and success only if the program reported it: a panic is
//!   a failure.
//! - Every wait for a client has a limit. A client can leave an output unread for 4 h, because a
//!   user can stop a terminal. A command can leave its input unread for any time. Meanwhile the
//!   memory of a session is limited. Over SPDY it is about 1 MiB ([`config()`]), of which a
//!   stopped reader can use about 100 KiB. Over WebSocket it is three of the longest messages
//!   ([`Server::max_message`]).
//! - A client that disappears is noticed when its connection ends. While a command leaves its input
//!   unread, the connection is not read either, and the end is noticed after about 10 s
//!   ([`Server::watch`]). If the machine or the network of a client disappears, its connection does
//!   not end. Set TCP keep-alive on the sockets that you accept, and limit the time of commands
//!   where that matters.
//! - GOAWAY is the last frame. After it the transport is read until the client closes its side, for
//!   30 s at most, so that the outcome is not lost.
//!
//! Each session consists of a few tasks on the tokio runtime in which the method of [`Server`] is
//! called. They end with the session.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Compiles the example in the README.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod asciicast;
pub mod client;
mod config;
pub mod cri;
mod drive;
mod long_head;
mod negotiate;
mod options;
mod origins;
mod printable;
mod relay;
mod server;
mod status;
mod stdio;
mod stream_type;
mod token;
mod websocket;

pub use self::{
    asciicast::{Asciicast, Recording},
    config::config,
    long_head::Explained,
    negotiate::Protocol,
    options::{InvalidPorts, NoStreams, Options, Ports, Streams},
    origins::Origins,
    relay::{CommandTap, Passing, Relay, Tap, relay},
    server::Server,
    status::{BoxError, Exit, Status, StatusError},
    stdio::{Client, Io, Resize, Size, Stdin, Stdout},
    token::{MAX_WAITING, TokenError, Tokens},
    websocket::{WebSocketCount, WebSocketCounters},
};
