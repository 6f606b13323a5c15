//! A recording gateway in front of a Kubernetes API server.
//!
//! Clients such as kubectl use it as their only server. Exec, attach, cp and port-forward pass
//! through the [`Relay`](spdy_kube::Relay) of spdy-kube, which records commands and can end
//! sessions. Every other request passes to the API server as it is.
//!
//! *In scope*: who the user is, rules about sessions, recordings, audit lines, the list of live
//! sessions and their end by order. *Out of scope*: what a user may do in the cluster. Kubernetes
//! decides that, because the bastion impersonates its users. The rules of the bastion only take
//! away.
//!
//! ```no_run
//! use spdy_bastion::{Bastion, Config, Kubeconfig, KubeconfigOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let path = "/home/alice/.kube/config".as_ref();
//!     let upstream = Kubeconfig::load(path, KubeconfigOptions::default())?;
//!     let mut config = Config::new(upstream);
//!     config.recordings = "/var/lib/recordings".into();
//!     let bastion = Bastion::start(config).await?;
//!     println!("{}", bastion.kubeconfig());
//!     tokio::signal::ctrl_c().await?;
//!     bastion.shutdown("the bastion is shutting down").await;
//!     Ok(())
//! }
//! ```
//!
//! - [`Config`] has everything that can be set, and [`Bastion`] runs it.
//! - [`Kubeconfig`] is the API server behind the bastion.
//! - [`control`] lists and ends the live sessions of another process.
//!
//! # What you can rely on
//!
//! - Only the relay asks the API server for an upgrade, so no other spelling of a request leads to
//!   streams. A request that the bastion does not understand is denied.
//! - The request to the API server is made of what the bastion has read, so both read the same.
//! - No byte of a recorded command passes before it is in the recording. If it cannot be written,
//!   the session ends, and the client gets the reason.
//! - Each session has an audit line when it starts, without which it does not start, and one when
//!   it has ended.
//!
//! The program runs on Unix alone: it uses Unix sockets and modes of files.

// Compiles the example in the README.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod audit;
mod bastion;
mod clock;
mod config;
pub mod control;
mod cut;
mod der;
mod error;
mod gateway;
mod headers;
mod http2;
mod kubeconfig;
mod listener;
mod live;
mod metrics;
mod metrics_page;
mod pieces;
mod proxy;
mod recording;
mod refusal;
mod refused;
mod reload;
mod rules;
mod session;
mod swap;
mod target;
mod tls;
mod unread;
mod upstream;
mod users;

pub use self::{
    bastion::Bastion,
    config::{Config, Limits, Security, UserHeader, Users},
    error::Error,
    kubeconfig::{Kubeconfig, KubeconfigOptions},
};
