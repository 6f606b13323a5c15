//! The addresses of one application together: which there can be, and how they are now.

use std::{error::Error, fmt, sync::Arc};

use tokio::{task::JoinSet, time::timeout};

use super::{Upstream, pool::Pool, target::Target};

/// The addresses of an application, as they are now. [`Proxy::build`](super::Proxy::build) returns
/// it.
///
/// Clones are of the same addresses.
#[derive(Clone)]
pub struct Upstreams(Arc<Pool>);

impl Upstreams {
    pub(super) const fn of(pool: Arc<Pool>) -> Self {
        Self(pool)
    }

    /// Returns whether an address accepts a connection now. It opens one to each address at once
    /// and closes them. They send nothing but the handshake of TLS, where there is one, and take no
    /// session that a connection for requests could resume.
    ///
    /// These connections do not count in [`Proxy::max_connections`](super::Proxy::max_connections).
    /// [`Server::ready_when`](crate::Server::ready_when) asks once a second at most.
    ///
    /// It takes at most the time in which a request connects to one address: see
    /// [`Proxy::connect_timeout`](super::Proxy::connect_timeout). The outcome changes nothing for
    /// requests: an address that they leave out is still left out.
    ///
    /// Cancel safe: connections that are being opened are dropped.
    pub async fn accept(&self) -> bool {
        let mut dials = JoinSet::new();
        for target in self.0.targets() {
            dials.spawn(accepts(Arc::clone(target)));
        }
        while let Some(accepts) = dials.join_next().await {
            if accepts.is_ok_and(|accepts| accepts) {
                return true;
            }
        }
        false
    }

    /// Returns each address, whether it is up, and the number of its requests.
    #[cfg(feature = "metrics")]
    pub(crate) fn view(&self) -> impl Iterator<Item = (String, bool, usize)> {
        let names = self.0.targets().map(|target| target.to_string());
        let view = names.zip(self.0.view());
        view.map(|(name, (is_up, requests))| (name, is_up, requests))
    }
}

async fn accepts(target: Arc<Target>) -> bool {
    matches!(timeout(target.limit(), target.check()).await, Ok(Ok(_)))
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.targets().map(|target| target.to_string());
        f.debug_list().entries(names).finish()
    }
}

/// The error for an address that cannot be added to those of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamsError {
    /// The address is there already.
    Twice(Upstream),
    /// The requests for these two addresses have different forms.
    Mixed(Upstream, Upstream),
}

impl UpstreamsError {
    /// Checks an address that is added to others.
    pub(super) fn check(others: &[Upstream], upstream: &Upstream) -> Result<(), Self> {
        if others.contains(upstream) {
            return Err(Self::Twice(upstream.clone()));
        }
        let other = others.iter().find(|other| !other.speaks_like(upstream));
        match other {
            Some(other) => Err(Self::Mixed(other.clone(), upstream.clone())),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UpstreamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(upstream) => write!(
                f,
                "{upstream} is there twice: list each address of the application once"
            ),
            Self::Mixed(one, other) => write!(
                f,
                "{one} and {other} have different protocols: use h2:// for all addresses of the \
                 application, h2s:// for all, or neither"
            ),
        }
    }
}

impl Error for UpstreamsError {}

#[cfg(test)]
mod tests {
    use super::super::Proxy;

    fn add(first: &str, second: &str) -> Result<usize, String> {
        let proxy = Proxy::new(first.parse().unwrap()).also(second.parse().unwrap());
        let proxy = proxy.map_err(|error| error.to_string())?;
        Ok(proxy.upstreams().len())
    }

    #[test]
    fn an_application_has_each_address_once_and_all_in_one_protocol() {
        assert_eq!(add("http://a:1", "http://a:2"), Ok(2));
        assert_eq!(add("http://a:1", "unix:/run/app.sock"), Ok(2));
        assert_eq!(add("h2://a:1", "h2://b:1"), Ok(2));
        assert_eq!(
            add("http://a", "http://a:80/").unwrap_err(),
            "http://a:80 is there twice: list each address of the application once"
        );
        assert_eq!(
            add("unix:/a", "h2://b:1").unwrap_err(),
            "unix:/a and h2://b:1 have different protocols: use h2:// for all addresses of the \
             application, h2s:// for all, or neither"
        );
    }
}
