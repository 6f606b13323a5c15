//! The accept loop: one for each socket, all of them under one limit of connections.

mod open;
#[cfg(unix)]
mod unix;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{Instrument, debug, debug_span, warn};

use self::open::Accepting;
pub use self::open::Inherited;
use crate::{
    config::{Bind, Endpoint},
    room::{Room, Seat},
    serve::Service,
    shutdown::Lifeline,
    socket::Socket,
};

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Accepting,
    endpoint: Endpoint,
}

impl Listener {
    /// Opens a socket. With `shared` other processes may do the same at the same time.
    pub(crate) async fn bind(bind: &Bind, shared: bool) -> io::Result<Self> {
        let socket = Accepting::open(&bind.address, shared).await?;
        let endpoint = Endpoint {
            address: socket.address()?,
            transport: bind.transport,
        };
        Ok(Self { socket, endpoint })
    }

    /// Takes sockets over that were opened by somebody else.
    pub(crate) fn inherited(inherited: Inherited) -> io::Result<Vec<Self>> {
        let listener = |(socket, transport): (Accepting, _)| {
            let address = socket.address()?;
            let endpoint = Endpoint { address, transport };
            Ok(Self { socket, endpoint })
        };
        inherited
            .into_sockets()?
            .into_iter()
            .map(listener)
            .collect()
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts connections, each on a task of its own, until the server drains. Then the socket is closed.
    pub(crate) async fn run(self, service: Arc<Service>, room: Arc<Room>, mut lifeline: Lifeline) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifeline.draining() => break,
                accepted = self.accept(&room, &service) => accepted,
            };
            spawn(accepted, &self.endpoint, &service, &lifeline);
        }
        // The system would reset the connections that it has let in already.
        for (io, peer) in self.socket.close() {
            let Some(seat) = room.try_enter() else {
                return;
            };
            let accepted = Accepted { io, peer, seat };
            spawn(accepted, &self.endpoint, &service, &lifeline);
        }
    }

    /// Waits for a connection, then for a place below the limit. Errors are waited out in here.
    ///
    /// In this order the listeners share the limit: one that waits for connections holds no place meanwhile.
    async fn accept(&self, room: &Room, service: &Service) -> Accepted {
        let mut pause = FIRST_PAUSE;
        let (io, peer) = loop {
            match self.socket.accept().await {
                Ok(accepted) => break accepted,
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "a connection was lost on arrival")
                }
                Err(error) => {
                    warn!(%error, listener = %self.endpoint, ?pause, "cannot accept connections");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        if let Some(seat) = room.try_enter() {
            return Accepted { io, peer, seat };
        }
        warn!(listener = %self.endpoint, "as many connections are open as the limit allows; new ones wait");
        service.limit_reached();
        let seat = room.enter().await;
        Accepted { io, peer, seat }
    }
}

/// A connection that has its place below the limit.
struct Accepted {
    io: Socket,
    peer: Option<SocketAddr>,
    seat: Seat,
}

fn spawn(accepted: Accepted, endpoint: &Endpoint, service: &Arc<Service>, lifeline: &Lifeline) {
    let Accepted { io, peer, seat } = accepted;
    let span = match peer {
        Some(peer) => debug_span!("connection", %peer),
        None => debug_span!("connection", listener = %endpoint),
    };
    let (service, transport) = (Arc::clone(service), endpoint.transport);
    let lifeline = lifeline.clone();
    seat.serve(io, move |io| {
        let connection = async move {
            match service.connection(io, peer, transport, lifeline).await {
                Ok(()) => debug!("connection ended"),
                // Clients end connections in every way there is; none of them is worth an operator's time.
                Err(error) => debug!(error, "connection failed"),
            }
        };
        connection.instrument(span)
    });
}

/// Whether an error of `accept` says something about a single peer, and the next call may well succeed.
///
/// All others, above all the lack of file descriptors, last for a while: trying again at once would spin.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// How long to wait after a first error of `accept`, and after many in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::{Config, observe::Observers};

    async fn listener() -> (Listener, SocketAddr) {
        let bind = Bind::plain("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        let listener = Listener::bind(&bind, false).await.unwrap();
        let address = listener.endpoint().address.tcp().unwrap();
        (listener, address)
    }

    fn service() -> Service {
        Service::new(
            axum::Router::new(),
            None,
            &Config::default(),
            Observers::default(),
        )
    }

    #[test]
    fn running_out_of_descriptors_is_waited_out_and_a_lost_peer_is_not() {
        const EMFILE: i32 = 24;
        assert!(!concerns_one_connection(&io::Error::from_raw_os_error(
            EMFILE
        )));
        assert!(!concerns_one_connection(&io::ErrorKind::OutOfMemory.into()));
        assert!(concerns_one_connection(
            &io::ErrorKind::ConnectionAborted.into()
        ));
    }

    #[tokio::test]
    async fn a_connection_over_the_limit_waits_until_another_has_ended() {
        let ((listener, address), service) = (listener().await, service());
        let room = Room::new(1, Vec::new());
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();

        let Accepted { seat, .. } = listener.accept(&room, &service).await;
        let waiting =
            tokio::time::timeout(Duration::from_millis(50), listener.accept(&room, &service)).await;
        assert!(waiting.is_err(), "a second connection was accepted");
        drop(seat);
        let _third = TcpStream::connect(address).await.unwrap();
        let _accepted = listener.accept(&room, &service).await;
    }

    #[tokio::test]
    async fn a_listener_without_connections_takes_no_place_from_another() {
        let ((quiet, _), (busy, address)) = (listener().await, listener().await);
        let (room, service) = (Room::new(1, Vec::new()), service());
        let _client = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            biased;
            _ = quiet.accept(&room, &service) => panic!("nobody has connected there"),
            _ = busy.accept(&room, &service) => {}
        }
    }

    #[tokio::test]
    async fn who_waits_in_the_queue_when_the_socket_is_closed_is_taken_along() {
        let (listener, address) = listener().await;
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        assert_eq!(listener.socket.close().count(), 2);
    }
}
