//! Ends responses over HTTP/2 that the client does not read.
//!
//! A client can keep the window of a response closed and answer every PING. hyper waits for the
//! window without a limit, and keeps the response of the API server. A body knows whether its
//! client reads: [`Pieces`](crate::pieces::Pieces) returns a piece when the one before has left.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

tokio::task_local! {
    /// The response of the request that a task serves.
    static RESPONSE: Unread;
}

/// What a task and the body of its response share.
#[derive(Clone, Debug)]
struct Unread(Arc<State>);

#[derive(Debug)]
struct State {
    /// Since when the last piece of the response has not left. `None` means that all pieces have.
    since: Mutex<Option<Instant>>,
    limit: watch::Sender<Duration>,
}

/// Notes what the body of a response has returned. A response over HTTP/1.1 is not watched in this
/// way, because a client that does not read it keeps the transport from taking bytes.
pub(crate) fn note<T>(polled: &Poll<Option<T>>) {
    let since = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
    _ = RESPONSE.try_with(|response| response.set(since));
}

/// Returns whether the current task serves a request whose response is watched.
pub(crate) fn is_watched() -> bool {
    RESPONSE.try_with(|_| ()).is_ok()
}

/// Sets how long the client can leave the response of the current task unread.
pub(crate) fn set_limit(limit: Duration) {
    _ = RESPONSE.try_with(|response| response.0.limit.send_replace(limit));
}

impl Unread {
    fn new(limit: Duration) -> Self {
        Self(Arc::new(State {
            since: Mutex::default(),
            limit: watch::Sender::new(limit),
        }))
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the client has not read a piece for too long.
    async fn for_long(&self) {
        let mut limits = self.0.limit.subscribe();
        loop {
            let limit = *limits.borrow_and_update();
            let begin = self.since().unwrap_or_else(Instant::now);
            let passed = async {
                match begin.checked_add(limit) {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                _ = limits.changed() => continue,
            }
            if self.since().is_some_and(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

/// Runs the tasks that hyper has for the requests of a connection. Each ends when its client has
/// read nothing for too long, which resets the stream of the request, and drops the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tasks {
    pub(crate) limit: Duration,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let response = Unread::new(self.limit);
        let watched = response.clone();
        tokio::spawn(RESPONSE.scope(response, async move {
            tokio::select! {
                _ = request => {}
                () = watched.for_long() => {
                    tracing::debug!("client does not read a response, which is reset");
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::{Pin, pin},
        sync::atomic::{AtomicUsize, Ordering},
        task::Context,
    };

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::{
        body::{Body, Frame, Incoming},
        client::conn::http2 as client,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use spdy_kube::BoxError;
    use tokio::{
        io::duplex,
        sync::mpsc,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{
        http2::settings,
        pieces::{Busy, PIECE, Pieces},
    };

    const UNREAD: Duration = Duration::from_secs(100);

    const SECOND: Duration = Duration::from_secs(1);

    /// Far more than the limit, which is not about windows.
    const WINDOW: u32 = 10_000_000;

    /// A body of pieces of a number of bytes. Their bytes are counted, and the time of its end is
    /// sent.
    struct Pattern {
        left: usize,
        length: usize,
        taken: Arc<AtomicUsize>,
        begin: Instant,
        ended: mpsc::UnboundedSender<Duration>,
    }

    impl Body for Pattern {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.left -= 1;
            self.taken.fetch_add(self.length, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(vec![b'x'; self.length].into()))))
        }

        fn is_end_stream(&self) -> bool {
            self.left == 0
        }
    }

    impl Drop for Pattern {
        fn drop(&mut self) {
            _ = self.ended.send(self.begin.elapsed());
        }
    }

    /// A server whose responses have this many pieces of this length.
    struct Patterns {
        taken: Arc<AtomicUsize>,
        ended: mpsc::UnboundedReceiver<Duration>,
        client: client::SendRequest<Empty<Bytes>>,
    }

    impl Patterns {
        /// `window` is that of each response at the client.
        async fn serve(number: usize, length: usize, window: u32) -> Self {
            let taken = Arc::new(AtomicUsize::new(0));
            let (sender, ended) = mpsc::unbounded_channel();
            let (busy, count) = (watch::Sender::new(0), Arc::clone(&taken));
            let service = service_fn(move |_: Request<Incoming>| {
                let body = Pattern {
                    left: number,
                    length,
                    taken: Arc::clone(&count),
                    begin: Instant::now(),
                    ended: sender.clone(),
                };
                let body = Pieces::new(body.boxed_unsync(), Busy::new(&busy));
                async { Ok::<_, Infallible>(Response::new(body)) }
            });
            let (near, far) = duplex(64 * 1024);
            tokio::spawn(settings(UNREAD).serve_connection(TokioIo::new(far), service));
            let (client, connection) = client::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(window)
                .initial_connection_window_size(WINDOW)
                .handshake(TokioIo::new(near))
                .await
                .unwrap();
            tokio::spawn(connection);
            Self {
                taken,
                ended,
                client,
            }
        }

        async fn ask(&mut self) -> Incoming {
            let request = Request::new(Empty::new());
            self.client.send_request(request).await.unwrap().into_body()
        }
    }

    /// The client answers PINGs, and has granted a window of one byte.
    #[tokio::test(start_paused = true)]
    async fn little_of_a_response_waits_for_a_client_that_does_not_read() {
        for length in [PIECE, 20 * PIECE] {
            let mut server = Patterns::serve(100, length, 1).await;
            let _unread = server.ask().await;
            sleep(SECOND).await;
            assert_eq!(server.taken.load(Ordering::Relaxed), length);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_piece_of_a_response_that_is_not_read_ends_as_well() {
        for length in [2, PIECE, 20 * PIECE] {
            let mut server = Patterns::serve(1, length, 1).await;
            let mut unread = server.ask().await;
            let ended = timeout(10 * UNREAD, server.ended.recv()).await;
            let lasted = ended.expect("it ends").unwrap();
            assert!(
                UNREAD <= lasted && lasted < 2 * UNREAD,
                "{length}: {lasted:?}"
            );
            unread.frame().await.unwrap().unwrap();
            let reset = unread.frame().await.unwrap();
            assert!(reset.is_err(), "{length}: {reset:?}");
        }
    }

    /// The client reads one response a frame at a time, and nothing of the other one.
    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_read_ends_and_others_go_on() {
        let mut server = Patterns::serve(usize::MAX, PIECE, 64 * 1024).await;
        let (mut unread, mut slow) = (server.ask().await, server.ask().await);
        let mut reading = pin!(async {
            loop {
                slow.frame().await.unwrap().unwrap();
                sleep(UNREAD / 20).await;
            }
        });
        let lasted = tokio::select! {
            lasted = server.ended.recv() => lasted.unwrap(),
            () = &mut reading => Duration::ZERO,
            () = sleep(10 * UNREAD) => panic!("it does not end"),
        };
        assert!(UNREAD <= lasted && lasted < 2 * UNREAD, "{lasted:?}");
        while let Some(Ok(_)) = unread.frame().await {}
        // Everything that had arrived was read before the reset.
        tokio::select! {
            lasted = server.ended.recv() => panic!("the other one has ended after {lasted:?}"),
            () = reading => {}
            () = sleep(3 * UNREAD) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_make_up_the_response() {
        for (number, length) in [(0, 1), (1, 1), (3, 0), (2, PIECE), (3, 3 * PIECE + 1)] {
            let mut server = Patterns::serve(number, length, WINDOW).await;
            let whole = server.ask().await.collect().await.unwrap().to_bytes();
            assert_eq!(whole.len(), number * length);
        }
    }
}
