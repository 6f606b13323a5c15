//! Opens connections to the application with a function of a test.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::Upstream;
use crate::{auto::Foreign, pass::pass, socket::Fails};

/// A transport to the application.
pub(super) type Channel = Box<dyn Transport>;

pub(super) trait Transport: AsyncRead + AsyncWrite + Fails + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Fails + Send + Unpin> Transport for IO {}

impl Fails for Channel {
    pass!(Fails => as_ref());
}

/// Opens a connection each time it is called.
#[derive(Clone)]
pub(super) struct Dial(Arc<dyn Fn(&Upstream) -> Dialing + Send + Sync>);

type Dialing = Pin<Box<dyn Future<Output = io::Result<Channel>> + Send>>;

impl Dial {
    pub(super) fn new<F, C, IO>(dial: F) -> Self
    where
        F: Fn(&Upstream) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |upstream| {
            let dialing = dial(upstream);
            Box::pin(async move { Ok(Box::new(Foreign(dialing.await?)) as Channel) })
        }))
    }

    pub(super) async fn connect(&self, upstream: &Upstream) -> io::Result<Channel> {
        (self.0)(upstream).await
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
