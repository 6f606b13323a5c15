//! A connection of a known protocol, with its application.

use std::{io, pin::Pin, sync::Arc};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use spdy_tower::Http1Io;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tracing::debug;

use super::{
    Established, Service,
    begin::{until_cut, within},
    builders::http2_builder,
};
#[cfg(feature = "npn")]
use crate::info::ConnectionInfo;
use crate::{
    body_timeout::BodyTimeout,
    connection::{self, App, Connection, HyperApp},
    cork::Cork,
    discard::Discard,
    idle::Idle,
    info::Client,
    keep::{Ending, Keeping, Kept},
    linger::{Linger, Owed},
    negotiate::Protocol,
    observe::{Called, Observed, Watch},
    proxy_protocol::Said,
    request_id::Identified,
    rest::Rest,
    shutdown::Lifeline,
    socket::{Fails, Socket},
    stall::Answers,
    switched::{Leash, Leashed},
    tail::Tailed,
    tls::Secured,
};

impl Service {
    #[cfg(not(feature = "rustls"))]
    pub(super) async fn establish_secured(
        &self,
        secured: Secured<Socket>,
        _: Said,
        _: Instant,
        _: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        match secured.0 {}
    }

    #[cfg(feature = "rustls")]
    pub(super) async fn establish_secured(
        &self,
        secured: Secured<Socket>,
        said: Said,
        deadline: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        match secured {
            Secured::Rustls(io) => {
                let client = Client::of_tls(io.get_ref().1, said.peer).said(said);
                self.establish(io, client, deadline, lifeline).await
            }
            #[cfg(feature = "npn")]
            Secured::Npn(io, protocol, tls) => {
                let client = Client::from(ConnectionInfo {
                    protocol,
                    peer: said.peer,
                    tls: Some(tls),
                    is_tls_of_proxy: false,
                });
                self.establish(io, client.said(said), deadline, lifeline)
                    .await
            }
        }
    }

    /// Creates the connection of the protocol on the transport. It reads and writes nothing before
    /// it is polled.
    ///
    /// The box has the size of one protocol's connection, and not that of the largest.
    ///
    /// An application that is made for the connection has to be there before the deadline.
    pub(super) async fn establish<IO>(
        &self,
        io: IO,
        client: Client,
        deadline: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let info = client.info;
        let made = until_cut(lifeline, self.apps.of(info));
        let Some(router) = within(deadline, made).await? else {
            return Ok(None);
        };
        debug!(protocol = %info.protocol, tls = info.tls.map(|tls| tls.version), "connection established");
        let app = App {
            router,
            client,
            answers: None,
        };
        let open = self.metrics().map(|metrics| metrics.session(info.protocol));
        let watch = self.observers.watch(info);
        let connection: Pin<Box<dyn Connection>> = match info.protocol {
            Protocol::Spdy(version) => {
                let spdy = self.observers.look_at_malformed(&self.spdy, info);
                let app = Identified::new(Observed::new(app, watch), self.ids.clone());
                Box::pin(spdy.serve_connection(io, version, app))
            }
            Protocol::Http2 => {
                let answers = Answers::new(self.timeouts.write);
                // The client always owes something: the credit for what it has not read.
                let owed = Owed::default();
                let told = self.idle(io).telling(answers.outflow(), watch.clone());
                let cork = Cork::new(Linger::new(told, owed.clone()));
                let builder = http2_builder(answers.clone(), self.http2, self.timeouts);
                let (idle, write) = (self.timeouts.idle, self.timeouts.write);
                let rest = Rest::new(answers.clone(), owed, idle, write);
                let app = App {
                    answers: Some(answers),
                    ..app
                };
                let io = TokioIo::new(cork.clone());
                let connection = builder.serve_connection(io, self.timed(app, watch.clone(), None));
                Box::pin(connection::Http2 {
                    connection,
                    cork,
                    rest,
                    watch,
                })
            }
            Protocol::Http1 => {
                let owed = Owed::default();
                let keeping = Keeping::new(owed.clone(), Arc::clone(&self.crowd));
                let io = Tailed::new(io, owed.tail().clone());
                let io = self.idle(io).until_timed_otherwise(owed.clone());
                let io = Leashed::new(Linger::new(io, owed.clone()), owed.clone());
                let io = Http1Io::new(io);
                let leash = Leash(owed.clone());
                let mut builder = self.http1.clone();
                // Once the server drains, the first response announces that the connection closes.
                builder.keep_alive(self.keeps_http1 && !lifeline.is_draining());
                let kept = Some((owed, keeping.clone()));
                let connection = builder
                    .serve_connection(TokioIo::new(io), self.timed(app, watch.clone(), kept));
                let ending = Ending::new(keeping, self.timeouts.idle_close);
                let connection = connection.with_upgrades();
                Box::pin(connection::Http1::new(connection, watch, ending, leash))
            }
        };
        Ok(Some((connection, open)))
    }

    fn idle<IO>(&self, io: IO) -> Idle<IO> {
        Idle::new(io, self.timeouts.idle, self.timeouts.write)
    }

    /// Returns the application for hyper, with what hyper lacks: a limit on the time of a request
    /// body, and the reading of the part of it that the application has left unread. For HTTP/1.1
    /// it gets what a connection shares with its requests.
    fn timed(
        &self,
        app: App,
        watch: Option<Arc<Watch>>,
        kept: Option<(Owed, Keeping)>,
    ) -> HyperApp {
        let called = watch.clone().filter(|_| kept.is_none());
        let (owed, keeping) = kept.unzip();
        let timed = BodyTimeout::new(app, self.timeouts.body);
        let observed = Observed::new(Discard::new(timed, owed), watch);
        let identified = Identified::new(observed, self.ids.clone());
        let service = TowerToHyperService::new(Kept::new(identified, keeping));
        Called::new(service, called)
    }
}
