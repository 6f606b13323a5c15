//! The accept loop: one for each socket, under a common limit of connections.

mod open;
#[cfg(unix)]
mod unix;

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{Instrument, debug, debug_span, warn};

pub use self::open::Inherited;
use self::open::{Accepting, BACKLOG};
use crate::{
    config::{Bind, Endpoint, SocketFiles, Transport},
    room::{Room, Seat},
    service::Service,
    shutdown::Lifeline,
    socket::{Peer, Socket},
};

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Accepting,
    endpoint: Endpoint,
}

impl Listener {
    /// Opens a socket. With `shared`, other processes can open the same address at the same time.
    pub(crate) fn bind(bind: &Bind, shared: bool, files: SocketFiles) -> io::Result<Self> {
        let socket = Accepting::open(&bind.address, shared, files)?;
        let endpoint = Endpoint {
            address: socket.address()?,
            transport: bind.transport,
        };
        Ok(Self { socket, endpoint })
    }

    /// Takes over sockets that are bound already: those for clients, and the one for metrics.
    pub(crate) fn inherited(inherited: Inherited) -> io::Result<(Vec<Self>, Option<Self>)> {
        let listener = |(socket, transport): (Accepting, _)| {
            let address = socket.address()?;
            let endpoint = Endpoint { address, transport };
            Ok(Self { socket, endpoint })
        };
        let (clients, metrics) = inherited.into_sockets()?;
        let clients: io::Result<_> = clients.into_iter().map(listener).collect();
        let metrics = metrics.map(|socket| listener((socket, Transport::Plain)));
        Ok((clients?, metrics.transpose()?))
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts connections, each on its own task, until the server drains. Then closes the socket,
    /// and serves the connections that the system has already accepted as places become free.
    pub(crate) async fn run(self, service: Arc<Service>, room: Arc<Room>, mut lifeline: Lifeline) {
        let mut waiting = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifeline.draining() => break,
                accepted = self.accept(&mut waiting, &room, &service) => accepted,
            };
            if !service.refuses() {
                spawn(accepted, &self.endpoint, &service, &lifeline);
            }
        }
        // Otherwise the connection that waits for a place would be dropped, and the system would
        // reset those in its queue.
        let (endpoint, queue) = self.close(MAX_LATE);
        for arrival in waiting.into_iter().chain(queue) {
            let late = Late {
                arrival,
                endpoint: endpoint.clone(),
                service: Arc::clone(&service),
            };
            tokio::spawn(late.serve(Arc::clone(&room), lifeline.clone()));
        }
    }

    /// Yields the connections that wait to be accepted, up to a number, and then closes the socket.
    fn close(self, most: usize) -> (Endpoint, impl Iterator<Item = Arrival> + Send) {
        (self.endpoint, self.socket.close().take(most))
    }

    /// Waits for a connection, and then for a place below the limit. Errors of the system are
    /// handled here. Cancel safe: a connection that waits for its place is in `waiting`.
    ///
    /// This order shares the limit among the listeners: a listener that waits for connections holds
    /// no place.
    async fn accept(
        &self,
        waiting: &mut Option<Arrival>,
        room: &Room,
        service: &Service,
    ) -> Accepted {
        if waiting.is_none() {
            *waiting = Some(self.arrival(service).await);
        }
        let seat = match room.try_enter() {
            Some(seat) => seat,
            None => {
                if service.limit_reached() {
                    warn!(
                        limit = room.limit(),
                        "the limit of open connections is reached; new ones wait"
                    );
                }
                room.enter().await
            }
        };
        let arrival = waiting.take().expect("an arrival is taken only here");
        Accepted { arrival, seat }
    }

    async fn arrival(&self, service: &Service) -> Arrival {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.socket.accept().await {
                Ok(arrival) => return arrival,
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "a connection was lost before it was accepted")
                }
                Err(error) => {
                    if service.accept_failed() {
                        warn!(%error, listener = %self.endpoint, "cannot accept connections; trying again");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// A connection that was just accepted, and its client.
type Arrival = (Socket, Peer);

/// A connection that arrived before the server began to drain, and has no place yet.
struct Late {
    arrival: Arrival,
    endpoint: Endpoint,
    service: Arc<Service>,
}

impl Late {
    /// Serves the connection when another one has ended. At the last call the connection is
    /// answered with 503 in its own protocol, without a place. This does not take long, and there
    /// are at most [`MAX_LATE`] of them for each socket.
    async fn serve(self, room: Arc<Room>, mut lifeline: Lifeline) {
        let seat = tokio::select! {
            biased;
            seat = room.enter_late() => Some(seat),
            () = lifeline.last_call() => None,
        };
        let (arrival, endpoint) = (self.arrival, &self.endpoint);
        match seat {
            Some(seat) => spawn(
                Accepted { arrival, seat },
                endpoint,
                &self.service,
                &lifeline,
            ),
            None => {
                let service = self.service.turning_away();
                connection(arrival, endpoint, Arc::new(service), lifeline).await;
            }
        }
    }
}

/// A connection with a place below the limit.
struct Accepted {
    arrival: Arrival,
    seat: Seat,
}

fn spawn(accepted: Accepted, endpoint: &Endpoint, service: &Arc<Service>, lifeline: &Lifeline) {
    let Accepted { arrival, seat } = accepted;
    let (io, peer) = arrival;
    let (service, lifeline, endpoint) = (Arc::clone(service), lifeline.clone(), endpoint.clone());
    seat.serve(io, move |io| {
        connection((io, peer), &endpoint, service, lifeline)
    });
}

/// Serves a connection to its end.
fn connection(
    (io, peer): Arrival,
    endpoint: &Endpoint,
    service: Arc<Service>,
    lifeline: Lifeline,
) -> impl Future<Output = ()> + Send + use<> {
    let span = match peer.address() {
        Some(peer) => debug_span!("connection", %peer),
        None => debug_span!("connection", listener = %endpoint),
    };
    let beginning = service.connection(io, peer, endpoint.transport, lifeline);
    let served = async move {
        match beginning.serve().await {
            Ok(()) => debug!("connection ended"),
            // Clients end connections in many ways. None of them needs the attention of an
            // operator.
            Err(error) => debug!(error, "connection failed"),
        }
    };
    served.instrument(span)
}

/// Returns whether an error of `accept` only concerns one client, so the next call might succeed.
///
/// Other errors last for a while, above all a lack of file descriptors: trying again at once would
/// spin.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// The maximum number of connections that are served although their socket is being closed: all
/// that fit in its queue. Linux has room for one more than it is asked for.
const MAX_LATE: usize = BACKLOG as usize + 1;

/// The pause after the first error of `accept`, and the longest pause after many in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpStream;

    use super::*;
    use crate::{Config, observe::Observers};

    async fn listener() -> (Listener, SocketAddr) {
        let bind = Bind::plain("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        let listener = Listener::bind(&bind, false, SocketFiles::default()).unwrap();
        let address = listener.endpoint().address.tcp().unwrap();
        (listener, address)
    }

    fn service() -> Service {
        Service::new(
            crate::application::Applications::One(axum::Router::new()),
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

        let Accepted { seat, .. } = listener.accept(&mut None, &room, &service).await;
        let mut waiting = None;
        let outcome = tokio::time::timeout(
            Duration::from_millis(50),
            listener.accept(&mut waiting, &room, &service),
        )
        .await;
        assert!(outcome.is_err(), "a second connection was accepted");
        assert!(waiting.is_some(), "the second connection was dropped");
        drop(seat);
        let _third = TcpStream::connect(address).await.unwrap();
        let _accepted = listener.accept(&mut None, &room, &service).await;
    }

    #[tokio::test]
    async fn a_listener_without_connections_takes_no_place_from_another() {
        let ((quiet, _), (busy, address)) = (listener().await, listener().await);
        let (room, service) = (Room::new(1, Vec::new()), service());
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut none, mut one) = (None, None);
        tokio::select! {
            biased;
            _ = quiet.accept(&mut none, &room, &service) => panic!("no client has connected there"),
            _ = busy.accept(&mut one, &room, &service) => {}
        }
    }

    #[tokio::test]
    async fn who_waits_in_the_queue_when_the_socket_is_closed_is_taken_along() {
        let (listener, address) = listener().await;
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        assert_eq!(listener.close(MAX_LATE).1.count(), 2);
    }

    #[tokio::test]
    async fn no_more_than_a_number_is_taken_along() {
        let (listener, address) = listener().await;
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        assert_eq!(listener.close(2).1.count(), 2);
    }
}
