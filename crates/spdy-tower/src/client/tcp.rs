//! TCP to a host with several addresses.

use std::{fmt, io, net::SocketAddr, pin::Pin, sync::Arc};

use super::{Dial, Dialing, Transport};
use crate::{lookups::Lookups, race::connect_any};

/// Opens TCP connections to the addresses that a resolver returns.
#[derive(Clone)]
pub(super) struct Tcp(Arc<Resolve>);

type Resolve = dyn Fn(String, u16) -> Resolving + Send + Sync;

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl Tcp {
    pub(super) fn new<F, R>(resolve: F) -> Self
    where
        F: Fn(String, u16) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host, port| Box::pin(resolve(host, port))))
    }
}

/// The resolver of the system.
impl Default for Tcp {
    fn default() -> Self {
        let lookups = Lookups::default();
        Self::new(move |host: String, port| {
            let lookups = lookups.clone();
            async move { lookups.find(&host, port).await }
        })
    }
}

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> Dialing {
        let addresses = (self.0)(host.to_owned(), port);
        Box::pin(async {
            let transport = connect_any(addresses.await?).await?;
            Ok(Box::new(transport) as Box<dyn Transport>)
        })
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tcp")
    }
}
