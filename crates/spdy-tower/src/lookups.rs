//! The addresses that a host has by its name.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// The resolver of the system, of which no more lookups run at once than [`MAX`](Self::MAX). Clones
/// share this limit.
///
/// A lookup of the system cannot be stopped. So one whose future is dropped counts until its end:
/// while the resolver hangs, neither threads nor lookups in the queue of tokio's runtime become
/// more. As many names that hang hold up all others, so a program whose users choose the names has
/// a value for each user, or a resolver that can be stopped.
///
/// ```
/// # use spdy_tower::client::{Lookups, connect_any};
/// # async fn of(lookups: Lookups) -> std::io::Result<()> {
/// let transport = connect_any(lookups.find("a.test", 443).await?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lookups(Arc<Semaphore>);

impl Lookups {
    /// The maximum number of lookups at once. Further ones wait.
    pub const MAX: usize = 16;

    /// Returns the addresses of a host, with a port. A host that is an address itself is not looked
    /// up.
    ///
    /// There is no timeout but that of the system. Cancel safe. It needs a runtime of tokio.
    ///
    /// # Errors
    /// Those of the system: there is no such host, or it cannot be asked. If no file descriptor is
    /// left, that is the error, and not a missing host, which resolvers report then.
    pub async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let host = host.to_owned();
        self.run(move || match (host, port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            // A pipe needs nothing but descriptors.
            Err(error) => Err(io::pipe().err().unwrap_or(error)),
        })
        .await
    }

    async fn run<T>(&self, lookup: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T>
    where
        T: Send + 'static,
    {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let lookup = move || {
            let _turn = turn;
            lookup()
        };
        spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    /// Begins as many lookups as there can be at once, and drops their futures. They end when the
    /// value is dropped.
    async fn hang(lookups: &Lookups) -> Vec<mpsc::Sender<()>> {
        let mut hung = Vec::new();
        for _ in 0..Lookups::MAX {
            let (end, ended) = mpsc::channel::<()>();
            let lookup = lookups.run(move || Ok(ended.recv()));
            tokio::select! {
                biased;
                _ = lookup => unreachable!("it hangs"),
                () = async {} => hung.push(end),
            }
        }
        hung
    }

    #[tokio::test]
    async fn lookups_that_hang_are_no_more_than_a_limit_and_hold_up_no_address() {
        let lookups = Lookups::default();
        let mut hung = hang(&lookups).await;
        let named = lookups.clone();
        let mut finding = Box::pin(named.find("localhost", 1));
        let early = timeout(Duration::from_millis(200), &mut finding).await;
        assert!(early.is_err(), "it was one lookup too many");
        let address = lookups.find("127.0.0.1", 2).await.unwrap();
        assert_eq!(address, [([127, 0, 0, 1], 2).into()]);
        hung.pop();
        let found = timeout(Duration::from_secs(60), finding).await;
        let found = found.expect("it is its turn").unwrap();
        assert!(found.iter().all(|one| one.ip().is_loopback()) && !found.is_empty());
    }
}
