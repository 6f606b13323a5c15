//! Ends HTTP/2 responses that the client does not read.
//!
//! Only the transport can stall an HTTP/1 response, and [`Idle`](crate::idle::Idle) watches the
//! transport. An HTTP/2 client can also keep the window of a response closed while it replies to
//! every PING. hyper waits for that window without a limit, and keeps the response of the
//! application. So this module watches the task of each HTTP/2 request: when hyper has taken a
//! piece of a response, it asks for the next one as soon as the client reads more.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use crate::rest::{Open, Requests};

/// What the responses of one HTTP/2 connection share. As an executor it runs the tasks of the
/// requests.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    shared: Arc<Shared>,
    requests: Arc<Requests>,
}

#[derive(Debug, Default)]
struct Shared {
    period: Duration,
    /// The bytes of all responses that hyper has taken. It takes them when the client allows it to
    /// send.
    taken: AtomicU64,
    outflow: Arc<Outflow>,
    /// The number of responses that wait for the client.
    held: AtomicUsize,
}

/// What the transport of a connection has taken.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    /// The payload of all responses that the transport has taken.
    data: AtomicU64,
    /// Whether something was written, or hyper tried to, since the transport was last flushed. TLS
    /// takes up to 80 KiB that the client has not read, and heads and trailers are not in `data`.
    is_unflushed: AtomicBool,
}

impl Outflow {
    pub(crate) fn add(&self, data: u64) {
        self.data.fetch_add(data, Ordering::Relaxed);
    }

    pub(crate) fn data(&self) -> u64 {
        self.data.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unflushed(&self, is_unflushed: bool) {
        self.is_unflushed.store(is_unflushed, Ordering::Relaxed);
    }

    pub(crate) fn is_flushed(&self) -> bool {
        !self.is_unflushed.load(Ordering::Relaxed)
    }
}

impl Answers {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                period,
                ..Shared::default()
            }),
            requests: Arc::default(),
        }
    }

    /// Returns the count of open requests.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Returns what the transport of the connection tells of the bytes that it takes.
    pub(crate) fn outflow(&self) -> Arc<Outflow> {
        Arc::clone(&self.shared.outflow)
    }

    /// Returns whether the transport has passed on everything that hyper has taken. It has not if a
    /// response was reset meanwhile.
    pub(crate) fn are_sent(&self) -> bool {
        let (taken, sent) = self.shared.moved();
        sent >= taken && self.shared.outflow.is_flushed()
    }

    /// Wraps the body of a response, so that its progress is visible.
    pub(crate) fn watch(&self, body: Body) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        Body::new(Pieces {
            body,
            rest: Bytes::new(),
            shared: Arc::clone(&self.shared),
        })
    }
}

impl<F> hyper::rt::Executor<F> for Answers
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let mut watch = Watch::new(self.clone());
        let open = Open::new(&self.requests);
        tokio::spawn(async move {
            let _open = open;
            let mut request = pin!(request);
            poll_fn(|cx| {
                STEP.set(None);
                if request.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                watch.note(STEP.take());
                watch.poll_stalled(cx)
            })
            .await;
            // Dropping hyper's future resets the stream, and drops the response of the application.
        });
    }
}

/// What the body of a response did when it was last polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for the application.
    Waits,
    /// It has returned a piece.
    Gave,
}

thread_local! {
    /// The last step of the body that the current task of this thread polled. A task cannot ask
    /// hyper for the body of its request, but it polls that body.
    static STEP: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Detects a response that waits for its client for too long.
#[derive(Debug)]
struct Watch {
    answers: Answers,
    held: Option<Held>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// A response that waits for the client to read the piece that it has returned.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    due: Instant,
    /// The bytes that all responses had returned when this one began to wait.
    since: u64,
    /// The bytes that all responses had returned, and that the transport had taken, at the last
    /// check.
    before: (u64, u64),
    /// The number of checks, and the number of checks in a row without progress.
    looks: u32,
    quiet: u32,
}

impl Watch {
    const fn new(answers: Answers) -> Self {
        Self {
            answers,
            held: None,
            alarm: None,
        }
    }

    fn note(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Gave) => self.held = Held::new(&self.answers),
            Some(Step::Waits) => self.held = None,
            None => {}
        }
    }

    /// Completes when the client has read nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(held) = &mut self.held else {
            return Poll::Pending;
        };
        // Most alarms were set for an earlier piece of the response. The alarm is set again when it
        // rings, and not for each piece.
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(held.due)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if held.due <= Instant::now() {
                if held.is_stalled() {
                    debug!("the client does not read a response; resetting it");
                    return Poll::Ready(());
                }
                held.due += self.answers.shared.period / LOOKS;
            }
            alarm.as_mut().reset(held.due);
        }
    }
}

impl Held {
    /// Returns `None` if the period is too long for a clock.
    fn new(answers: &Answers) -> Option<Self> {
        let due = Instant::now().checked_add(answers.shared.period / LOOKS)?;
        let shared = Arc::clone(&answers.shared);
        shared.held.fetch_add(1, Ordering::Relaxed);
        let before = shared.moved();
        Some(Self {
            shared,
            due,
            since: before.0,
            before,
            looks: 0,
            quiet: 0,
        })
    }

    /// Returns whether the client could have read some of this response during a whole period, and
    /// has not.
    ///
    /// A client that reads other responses might only be slow, because responses take turns. If all
    /// others had several turns meanwhile, the client is not slow but does not read this response.
    fn is_stalled(&mut self) -> bool {
        let now = self.shared.moved();
        let held = self.shared.held.load(Ordering::Relaxed) as u64;
        // hyper takes the next piece only when the client has read most of the last one.
        let moves = mem::replace(&mut self.before, now) != now;
        self.looks += 1;
        self.quiet = if moves { 0 } else { self.quiet + 1 };
        let (taken, _) = now;
        let has_missed_turns = taken - self.since >= TURNS * held;
        self.quiet >= LOOKS
            || self.looks >= LOOKS && has_missed_turns
            || self.looks >= LOOKS * MAX_PERIODS
    }
}

impl Shared {
    fn moved(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.outflow.data())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body in pieces that are small enough to show progress.
struct Pieces {
    body: Body,
    rest: Bytes,
    shared: Arc<Shared>,
}

impl Pieces {
    fn piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.shared
            .taken
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        piece
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        STEP.set(Some(Step::Waits));
        // Empty pieces are skipped: peers count empty DATA frames, and close a connection that has
        // a hundred.
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        STEP.set(Some(Step::Gave));
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// The maximum number of bytes of a response that hyper takes at once, which is a DATA frame. It
/// keeps the turn of each response short.
const PIECE: usize = 16 * 1024;

/// The maximum number of bytes of a response that hyper buffers beyond what it can send.
pub(crate) const SEND_BUFFER: usize = 2 * PIECE;

/// The number of bytes that the other responses return, for each response that waits, before this
/// one has missed its turn: twice what one of them can have in hyper's buffer.
const TURNS: u64 = 2 * (SEND_BUFFER + PIECE) as u64;

/// The number of checks of a waiting response in a period. (At the first check, bytes in hyper's
/// buffer still move.)
const LOOKS: u32 = 4;

/// The number of periods after which a response is reset, even if it or others progress slowly.
pub(crate) const MAX_PERIODS: u32 = 10;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::{body::Incoming, client::conn::http2 as client, server::conn::http2, service};
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::mpsc,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{auto::Foreign, idle::Idle};

    const PERIOD: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn pieces_make_up_the_body_and_know_its_length() {
        let whole: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let body = Answers::new(PERIOD).watch(Body::from(whole.clone()));
        let mut body = pin!(body);
        let (mut seen, mut most) = (Vec::new(), 0);
        while seen.len() < whole.len() {
            let left = (whole.len() - seen.len()) as u64;
            assert_eq!(http_body::Body::size_hint(&*body).exact(), Some(left));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            most = most.max(piece.len());
            seen.extend_from_slice(&piece);
        }
        assert_eq!((seen, most), (whole, PIECE));
        assert!(http_body::Body::is_end_stream(&*body));
    }

    fn held(taken: u64) -> Held {
        let answers = Answers::new(PERIOD);
        answers.shared.taken.store(taken, Ordering::Relaxed);
        Held::new(&answers).unwrap()
    }

    /// Checks a waiting response until it is stalled. Returns the number of checks.
    fn looks(held: &mut Held, mut meanwhile: impl FnMut(&Shared)) -> u32 {
        loop {
            meanwhile(&held.shared);
            if held.is_stalled() {
                return held.looks;
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_misses_its_turns_is_stalled_and_one_that_waits_for_its_turn_is_not() {
        let take =
            |bytes| move |shared: &Shared| _ = shared.taken.fetch_add(bytes, Ordering::Relaxed);
        assert_eq!(looks(&mut held(7), |_| {}), LOOKS);
        assert_eq!(looks(&mut held(7), take(TURNS)), LOOKS);
        assert_eq!(looks(&mut held(7), take(TURNS / 8)), 8);

        let mut among_two = held(7);
        among_two.shared.held.fetch_add(1, Ordering::Relaxed);
        assert_eq!(looks(&mut among_two, take(TURNS / 8)), 16);

        let mut pieces = [TURNS / 2, 0, TURNS / 4].into_iter();
        let then_nothing = |shared: &Shared| take(pieces.next().unwrap_or(0))(shared);
        assert_eq!(looks(&mut held(7), then_nothing), 3 + LOOKS);
    }

    #[tokio::test]
    async fn others_that_hardly_move_do_not_keep_an_answer_for_ever() {
        let trickle = |shared: &Shared| _ = shared.taken.fetch_add(1, Ordering::Relaxed);
        assert_eq!(looks(&mut held(0), trickle), LOOKS * MAX_PERIODS);
    }

    /// A response of a megabyte, which reports when it is dropped.
    struct Megabyte(usize, mpsc::UnboundedSender<Duration>, Instant);

    impl http_body::Body for Megabyte {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0 == 0 {
                return Poll::Ready(None);
            }
            self.0 -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 65536])))))
        }
    }

    impl Drop for Megabyte {
        fn drop(&mut self) {
            _ = self.1.send(self.2.elapsed());
        }
    }

    /// Connects to a server over this transport. Also returns a channel of the times at which its
    /// responses are dropped.
    async fn connect(
        transport: (DuplexStream, DuplexStream),
        ping: Duration,
    ) -> (
        client::SendRequest<Empty<Bytes>>,
        mpsc::UnboundedReceiver<Duration>,
    ) {
        connect_with(transport, ping, 65_535).await
    }

    async fn connect_with(
        (near, far): (DuplexStream, DuplexStream),
        ping: Duration,
        window: u32,
    ) -> (
        client::SendRequest<Empty<Bytes>>,
        mpsc::UnboundedReceiver<Duration>,
    ) {
        let answers = Answers::new(PERIOD);
        let (sender, dropped) = mpsc::unbounded_channel();
        let (watched, outflow) = (answers.clone(), answers.outflow());
        let serve = service::service_fn(move |_: Request<Incoming>| {
            let body = Body::new(Megabyte(16, sender.clone(), Instant::now()));
            let response = Response::new(watched.watch(body));
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http2::Builder::new(answers);
        builder
            .timer(TokioTimer::new())
            .max_send_buf_size(SEND_BUFFER);
        let far = Idle::new(Foreign(far), PERIOD * 100, PERIOD).telling(outflow, None);
        tokio::spawn(builder.serve_connection(TokioIo::new(far), serve));
        let (sender, connection) = client::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ping)
            .initial_connection_window_size(1 << 20)
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        (sender, dropped)
    }

    async fn ask(mut sender: client::SendRequest<Empty<Bytes>>) -> Incoming {
        let request = Request::get("http://a/").body(Empty::new()).unwrap();
        sender.send_request(request).await.unwrap().into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_client_sends_nothing_but_pings_is_reset() {
        let (sender, mut dropped) = connect(duplex(65536), Duration::from_millis(500)).await;
        let _unread = ask(sender).await;
        let after = timeout(PERIOD * 2, dropped.recv()).await.unwrap().unwrap();
        assert!(PERIOD <= after && after < PERIOD * 4 / 3, "{after:?}");
    }

    /// Reads 128 bytes of an answer in each such time, and returns how long it lasted.
    async fn lasts(pause: Duration) -> Duration {
        let (sender, mut dropped) =
            connect_with(duplex(65536), Duration::from_millis(500), 128).await;
        let mut slow = ask(sender).await;
        let reading = async {
            loop {
                sleep(pause).await;
                slow.frame().await.unwrap().unwrap();
            }
        };
        tokio::select! {
            after = dropped.recv() => after.unwrap(),
            () = reading => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_slowly_has_time_for_each_piece() {
        // A piece takes 128 s and 1,280 s.
        let (slow, slower) = (Duration::from_secs(1), Duration::from_secs(10));
        let whole = timeout(PERIOD * 20, lasts(slow)).await;
        assert!(whole.is_err(), "{whole:?}");
        let most = PERIOD * MAX_PERIODS;
        let after = lasts(slower).await;
        assert!(most <= after && after < most + PERIOD, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_window_stays_shut_is_reset_while_another_goes_on() {
        let (sender, mut dropped) = connect(duplex(65536), Duration::from_millis(500)).await;
        let mut unread = ask(sender.clone()).await;
        let mut read = ask(sender).await;
        for _ in 0..4 {
            sleep(PERIOD / 5).await;
            for _ in 0..4 {
                read.frame().await.unwrap().unwrap();
            }
        }
        let after = timeout(PERIOD * 2, dropped.recv()).await.unwrap().unwrap();
        assert!(PERIOD <= after && after < PERIOD * 4 / 3, "{after:?}");
        let end = loop {
            match unread.frame().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.unwrap().is_err(), "a cut answer looks complete");
        assert_eq!(read.collect().await.unwrap().trailers(), None);
    }

    /// Returns a transport that carries 16 KiB to the client in two seconds.
    fn slow() -> (DuplexStream, DuplexStream) {
        let ((near, mut carrier), (mut taker, far)) = (duplex(PIECE), duplex(PIECE));
        tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; PIECE], vec![0; PIECE]);
            loop {
                tokio::select! {
                    Ok(length @ 1..) = carrier.read(&mut up) => {
                        taker.write_all(&up[..length]).await.unwrap();
                    }
                    Ok(length @ 1..) = taker.read(&mut down) => {
                        sleep(Duration::from_secs(2)).await;
                        carrier.write_all(&down[..length]).await.unwrap();
                    }
                    else => return,
                }
            }
        });
        (near, far)
    }

    /// Sixty responses share a connection on which each has a turn every two minutes.
    #[tokio::test(start_paused = true)]
    async fn answers_that_take_turns_on_a_slow_connection_are_not_reset() {
        let (sender, _dropped) = connect(slow(), PERIOD).await;
        let start = Instant::now();
        let read = |sender| async { ask(sender).await.collect().await };
        let reading: Vec<_> = (0..60)
            .map(|_| tokio::spawn(read(sender.clone())))
            .collect();
        for body in reading {
            let body = body.await.unwrap().expect("an answer was reset");
            assert_eq!(body.to_bytes().len(), 1 << 20);
        }
        assert!(start.elapsed() > PERIOD * MAX_PERIODS);
    }
}
