//! The beginning of a connection: the header of a proxy, the handshake, the choice of protocol.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{Established, Service};
use crate::{
    config::{Transport, after},
    info::{Client, ConnectionInfo},
    negotiate::first_bytes,
    proxy_protocol::{self, Said},
    shutdown::Lifeline,
    socket::{Fails, Peer, Socket},
    tls::{Secured, Tls},
};

impl Service {
    /// Determines the protocol. Returns `None` if the server drains before the client has sent
    /// anything, or ends at once.
    ///
    /// Parts that most connections do not have, or that are soon over, are boxes. A connection that
    /// waits for its first bytes would have room for all of them otherwise, several times.
    pub(super) async fn begin(
        &self,
        mut io: Socket,
        peer: Peer,
        transport: Transport,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        let tls = match (transport, &self.tls) {
            (Transport::Plain, _) => return self.begin_plain(io, peer, lifeline).await,
            (Transport::Tls, Some(tls)) => tls,
            (Transport::Tls, None) => {
                unreachable!("a server with a TLS listener has a certificate")
            }
        };
        let (deadline, first_word) = (after(self.timeouts.handshake), after(FIRST_WORD));
        let header = self.client(&mut io, peer, first_word, lifeline);
        let Some(said) = within(deadline, header).await? else {
            return Ok(None);
        };
        let handshake = Box::pin(handshake(tls, io, first_word, lifeline));
        let Some(secured) = within(deadline, handshake).await? else {
            return Ok(None);
        };
        Box::pin(self.establish_secured(secured, said, deadline, lifeline)).await
    }

    pub(super) async fn begin_plain<IO>(
        &self,
        mut io: IO,
        peer: Peer,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let (deadline, first_word) = (after(self.timeouts.handshake), after(FIRST_WORD));
        let header = self.client(&mut io, peer, first_word, lifeline);
        let Some(said) = within(deadline, header).await? else {
            return Ok(None);
        };
        let plain_version = said.plain_version().unwrap_or(self.plain_version);
        let first = first_bytes(io, plain_version);
        let detection = until_draining(lifeline, first_word, first);
        let Some((protocol, io)) = within(deadline, detection).await? else {
            return Ok(None);
        };
        let client = Client::from(ConnectionInfo {
            protocol,
            peer: peer.address(),
            tls: None,
            is_tls_of_proxy: false,
        });
        self.establish(io, client.said(said), deadline, lifeline)
            .await
    }

    /// Returns what is known of the client: its address, which the PROXY protocol can provide, with
    /// more. Returns `None` as [`begin`](Self::begin) does.
    async fn client<IO: AsyncRead + Unpin>(
        &self,
        io: &mut IO,
        peer: Peer,
        first_word: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Said>> {
        if !self.is_behind_proxy(peer) {
            return Ok(Some(Said::by_itself(peer.address())));
        }
        let header = Box::pin(proxy_protocol::read(io));
        let said = until_draining(lifeline, first_word, header).await?;
        Ok(said.map(|said| said.or(peer.address())))
    }

    /// Returns whether a connection of this peer begins with the header of a proxy. If the proxies
    /// are named, an unknown peer is not taken for one: it could claim any address.
    pub(super) fn is_behind_proxy(&self, peer: Peer) -> bool {
        let is_proxy = || match peer {
            Peer::Tcp(peer) => self.proxies.iter().any(|it| it.contains(peer.ip())),
            Peer::Unix => true,
            Peer::Unknown => false,
        };
        self.proxy_protocol && (self.proxies.is_empty() || is_proxy())
    }
}

/// Performs the handshake. Returns `None` if the server drains before the client has sent anything,
/// or ends at once.
async fn handshake(
    tls: &Tls,
    io: Socket,
    first_word: Instant,
    lifeline: &mut Lifeline,
) -> io::Result<Option<Secured<Socket>>> {
    let hello = Box::pin(Tls::hello(io));
    match until_draining(lifeline, first_word, hello).await? {
        Some(hello) => until_cut(lifeline, Box::pin(tls.handshake(hello))).await,
        None => Ok(None),
    }
}

/// Waits for the first bytes of the peer. Returns `None` if the server drains first; no request of
/// the peer is lost then.
///
/// A client that has just connected is about to send something, and has until `first_word` to do
/// so: [`FIRST_WORD`] in all, with the header of the PROXY protocol.
async fn until_draining<T>(
    lifeline: &mut Lifeline,
    first_word: Instant,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let mut beginning = pin!(beginning);
    tokio::select! {
        biased;
        begun = &mut beginning => return begun.map(Some),
        () = lifeline.draining() => {}
    }
    timeout_at(first_word, until_cut(lifeline, beginning))
        .await
        .unwrap_or(Ok(None))
}

/// Waits for a part of the beginning of a connection. Returns `None` if everything must end first.
pub(super) async fn until_cut<T>(
    lifeline: &mut Lifeline,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        begun = beginning => begun.map(Some),
        () = lifeline.cut() => Ok(None),
    }
}

pub(super) async fn within<T>(
    deadline: Instant,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout_at(deadline, beginning)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How long after its arrival a client can be silent and is still served, although the server
/// drains.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(1);
