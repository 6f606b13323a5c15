//! Replaces TLS in a build without the feature `tls`: a server with a TLS listener does not start.

#[cfg(feature = "metrics")]
use std::time::SystemTime;
use std::{convert::Infallible, io, marker::PhantomData};

use crate::{config::Certificate, secured::Fingerprint};

#[derive(Debug)]
pub(crate) enum Tls {}

#[derive(Debug)]
pub(crate) enum Watch {}

pub(crate) enum Hello {}

pub(crate) type Secured<IO> = (Infallible, PhantomData<IO>);

impl Tls {
    pub(crate) fn reload(&self) -> Result<bool, Infallible> {
        match *self {}
    }

    pub(crate) async fn hello<IO>(_: IO) -> io::Result<Hello> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn handshake<IO>(&self, _: Hello) -> io::Result<Secured<IO>> {
        match *self {}
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match *self {}
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn expiry(&self) -> Option<(Option<String>, SystemTime)> {
        match *self {}
    }
}

impl Watch {
    pub(crate) fn new(_: &Certificate) -> Option<Self> {
        None
    }

    pub(crate) fn has_changed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn catch_up(&self) {
        match *self {}
    }
}
