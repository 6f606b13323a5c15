//! Places for connections: their maximum number, and the runtimes that serve them.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::debug;

use crate::{
    crowd::Crowd,
    socket::{Detached, Socket},
};

/// The places of all listeners of a server.
#[derive(Debug)]
pub(crate) struct Room {
    permits: Arc<Semaphore>,
    limit: usize,
    crowd: Arc<Crowd>,
    /// The runtimes. Without any, a connection runs on the runtime of its listener.
    places: Vec<Place>,
}

impl Room {
    /// Creates room for this number of connections, each on one of these runtimes.
    pub(crate) fn new(max_connections: usize, runtimes: Vec<Handle>) -> Self {
        let max_connections = max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(max_connections)),
            limit: max_connections,
            crowd: Crowd::new(),
            places: runtimes.into_iter().map(Place::new).collect(),
        }
    }

    /// Returns a seat, or `None` if all are taken.
    pub(crate) fn try_enter(&self) -> Option<Seat> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.seat(permit))
    }

    /// Waits for a seat, and asks idle connections to leave meanwhile. Cancel safe.
    pub(crate) async fn enter(&self) -> Seat {
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        let permit = loop {
            self.crowd.make_way();
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                () = sleep(AGAIN) => {}
            }
        };
        self.crowd.is_seated();
        self.seat(permit.expect("the semaphore is never closed"))
    }

    /// Waits for a seat, and asks no connection to leave: a server that drains ends its idle
    /// connections in its own time. Cancel safe.
    pub(crate) async fn enter_late(&self) -> Seat {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        self.seat(permit.expect("the semaphore is never closed"))
    }

    /// Returns the number of seats.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the connections that can leave.
    pub(crate) const fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    /// Returns a seat on the runtime with the fewest connections. Their number is used and not
    /// their load, because connections last long and their load changes.
    fn seat(&self, permit: OwnedSemaphorePermit) -> Seat {
        let place = self.places.iter().min_by_key(|place| place.connections());
        Seat {
            permit,
            place: place.cloned(),
        }
    }
}

/// A runtime. The number of its connections is the number of clones of this.
#[derive(Clone, Debug)]
struct Place {
    runtime: Handle,
    clones: Arc<()>,
}

impl Place {
    fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            clones: Arc::default(),
        }
    }

    fn connections(&self) -> usize {
        Arc::strong_count(&self.clones) - 1
    }
}

/// The right of a connection to be open. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Seat {
    permit: OwnedSemaphorePermit,
    place: Option<Place>,
}

impl Seat {
    /// Serves a connection on its own task, on the runtime of the seat. The connection stays on
    /// that runtime.
    pub(crate) fn serve<F>(self, io: Socket, connection: impl FnOnce(Socket) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { permit, place } = self;
        let (runtime, clones) = place.map(|it| (it.runtime, it.clones)).unzip();
        // A socket receives events from the runtime that accepted it, so it has to be moved to a
        // new one.
        let _context = runtime.as_ref().map(Handle::enter);
        let io = match runtime {
            Some(_) => io.detach().and_then(Detached::attach),
            None => Ok(io),
        };
        match io {
            Ok(io) => {
                tokio::spawn(Seated {
                    connection: connection(io),
                    _permit: permit,
                    _clones: clones,
                });
            }
            Err(error) => debug!(%error, "cannot move a connection to its runtime"),
        }
    }
}

pin_project! {
    /// A connection that keeps its seat. An `async` block would take its room twice.
    struct Seated<F> {
        #[pin]
        connection: F,
        _permit: OwnedSemaphorePermit,
        _clones: Option<Arc<()>>,
    }
}

impl<F: Future<Output = ()>> Future for Seated<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().connection.poll(cx)
    }
}

/// How often others are asked to leave while a connection waits for its seat.
const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::{
        net::{TcpListener, TcpStream},
        runtime::Builder,
        time::timeout,
    };

    use super::*;

    async fn socket() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (io, _) = listener.accept().await.unwrap();
        (Socket::tcp(io), client.unwrap())
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_runtime_that_has_the_fewest() {
        let here = Handle::current();
        let room = Room::new(10, vec![here.clone(), here.clone(), here]);
        let counts = || room.places.iter().map(Place::connections);
        let mut seats: Vec<_> = (0..7).map(|_| room.try_enter().unwrap()).collect();
        assert_eq!(counts().collect::<Vec<_>>(), [3, 2, 2]);
        // The first, the fourth and the seventh seat are on the first runtime.
        seats.remove(6);
        seats.remove(3);
        seats.push(room.enter().await);
        assert_eq!(counts().collect::<Vec<_>>(), [2, 2, 2]);
    }

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_connection_has_ended() {
        let room = Room::new(1, vec![Handle::current()]);
        let (io, _client) = socket().await;
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        room.try_enter().unwrap().serve(io, |_io| async {
            let _ = ended.await;
        });
        assert!(room.try_enter().is_none());
        end.send(()).unwrap();
        room.enter().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_makes_no_idle_connection_leave() {
        let room = Room::new(1, Vec::new());
        let mut idle = room.crowd().join();
        let _seat = room.try_enter().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(idle.poll_leave(true, &mut cx).is_pending());
        sleep(Duration::from_secs(60)).await;
        let late = timeout(Duration::from_secs(60), room.enter_late());
        assert!(late.await.is_err());
        assert!(idle.poll_leave(true, &mut cx).is_pending());
        assert!(!room.crowd().claims_one());
    }

    #[tokio::test]
    async fn a_runtime_that_has_ended_loses_the_connection_and_not_its_seat() {
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        let room = Room::new(1, vec![other.handle().clone()]);
        other.shutdown_background();
        let (io, _client) = socket().await;
        room.enter()
            .await
            .serve(io, async |_| panic!("this runtime has ended"));
        room.enter().await;
    }
}
