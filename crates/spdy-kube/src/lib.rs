//! `kubectl exec`, `attach`, `cp` and `port-forward`: served, asked for, and relayed, over SPDY/3.1 and over WebSocket.
//!
//! *In scope*: the upgrade and the choice of a protocol, the streams of a command and of forwarded connections, how
//! outcomes are told, the tokens in the URLs of a container runtime. *Out of scope*: sockets and TLS, who may do what,
//! and what a container is. A program brings these, and an HTTP/1.1 server on hyper such as axum's. Who may do what is
//! a serious question here: any page that a browser shows can ask a server on loopback for a WebSocket, so let
//! [`Origins`] judge requests at least.
//!
//! The following answers `kubectl exec` and `cp` of every version, by running commands on this machine:
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
//!         Ok(options) => Server::new().exec(&mut request, options.streams, |io| run(options.command, io)),
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
//! kubectl also asks for the pod before it asks to run something in it. The example `kubelet` of the workspace answers
//! that too, gives commands a terminal, joins and forwards; kubectl works against it alone.
//!
//! - [`Server`] answers requests for exec, attach and port-forward. What the program has to do is a closure of each.
//! - [`Io`] is what a command gets: input and outputs that are `AsyncRead` and `AsyncWrite`, the sizes of the terminal,
//!   and news of the client.
//! - [`Origins`] refuse what pages of browsers ask.
//! - [`Tokens`] are the single-use URLs of a container runtime.
//! - [`client`] is the other side, for tools: WebSocket first, and SPDY where that is refused. A [`Relay`]
//!   stands between the two, for bastions: whatever each of them speaks, it can record, and end a session. [`relay`](relay())
//!   passes SPDY as it is.
//!
//! # What can be relied on
//!
//! - The end of an input is never made up: a client that is gone is an error to who reads its input, and the end of an
//!   output never comes before what was written to it. An outcome is told after both outputs have ended, and success
//!   only if the program said so: a panic is a failure.
//! - Everything that waits for a client has a deadline, but for what a user may do for hours: to leave an output unread,
//!   or a command its input. What is held of a session meanwhile is bounded ([`config()`]): about 1 MiB, of which a
//!   stopped reader can use some 100 KiB.
//! - A client that vanishes is noticed when its connection ends; while a command leaves its input unread, so that the
//!   connection is not read either, within some 10 s ([`Server::watch`]). A client whose machine or network is gone ends
//!   no connection: set TCP keep-alive on sockets that you accept, and give commands a limit of your own where that
//!   matters.
//! - GOAWAY is the last frame, and the transport is read for a second after it, so that the outcome is not lost.
//!
//! Each session is a few tasks of the tokio runtime that the method of [`Server`] is called in. They end with the
//! session.

#![cfg_attr(docsrs, feature(doc_cfg))]
// The example of the page is compiled.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod client;
mod config;
mod negotiate;
mod options;
mod origins;
mod relay;
mod server;
mod status;
mod stdio;
mod stream_type;
mod token;
mod websocket;

pub use self::{
    config::config,
    negotiate::Protocol,
    options::{InvalidPorts, NoStreams, Options, Ports, Streams},
    origins::Origins,
    relay::{CommandTap, Passing, Relay, Tap, relay},
    server::Server,
    status::{BoxError, Exit, Status, StatusError},
    stdio::{Client, Io, Resize, Size, Stdin, Stdout},
    token::{MAX_WAITING, TokenError, Tokens},
};
