//! An end for HTTP/2 answers that their client does not take.
//!
//! HTTP/1 answers are held up by the transport alone, which [`Idle`](crate::idle::Idle) watches. An HTTP/2 client may
//! also keep the window of an answer shut, while it answers every PING. hyper waits for that window without an end,
//! and the application's answer is held with it. So the task of each HTTP/2 request is watched here: once hyper has
//! taken a piece of an answer it asks for the next one as soon as the client takes more.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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

/// What the answers of one HTTP/2 connection have in common. Runs the tasks of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    shared: Arc<Shared>,
    requests: Arc<Requests>,
    period: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    /// The bytes of all answers that hyper has taken, which it does when the client lets it send.
    taken: AtomicU64,
    /// The bytes that the transport has taken.
    written: Arc<AtomicU64>,
    /// How many answers wait for the client.
    held: AtomicUsize,
}

impl Answers {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            shared: Arc::default(),
            requests: Arc::default(),
            period,
        }
    }

    /// Returns the requests that are under way.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Where to add what the transport of the connection takes.
    pub(crate) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.written)
    }

    /// Puts the body of an answer in a form whose progress can be seen.
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
            // Dropping hyper's future resets the stream, and drops the application's answer.
        });
    }
}

/// What the body of an answer did when it was last polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for the application.
    Waits,
    /// It has handed out a piece.
    Gave,
}

thread_local! {
    /// The last step of the body that is polled by the task which this thread runs. A task cannot ask hyper for the
    /// body of its request, but it is polled in it.
    static STEP: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Finds out whether an answer waits for its client for too long.
#[derive(Debug)]
struct Watch {
    answers: Answers,
    held: Option<Held>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// An answer that waits for the client to take the piece that it has handed out.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    due: Instant,
    /// What all answers had handed out when this one began to wait.
    since: u64,
    /// What all answers had handed out, and the transport taken, when this one was last looked at.
    before: (u64, u64),
    /// How often this one was looked at, and how often nothing had moved, without a break.
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

    /// Ends when the client has taken nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(held) = &mut self.held else {
            return Poll::Pending;
        };
        // The alarm is of an answer's earlier piece, mostly: it is set anew when it rings, not with each piece.
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(held.due)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if held.due <= Instant::now() {
                if held.is_stalled() {
                    debug!("the client takes nothing of an answer; it is reset");
                    return Poll::Ready(());
                }
                held.due += self.answers.period / LOOKS;
            }
            alarm.as_mut().reset(held.due);
        }
    }
}

impl Held {
    /// Returns `None` for a period beyond all times.
    fn new(answers: &Answers) -> Option<Self> {
        let due = Instant::now().checked_add(answers.period / LOOKS)?;
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

    /// Whether the client could have taken something of this answer for a whole period, and has not.
    ///
    /// A client that takes something else may only be slow: answers take turns. It is not slow but does not want this
    /// one when all others had several turns meanwhile.
    fn is_stalled(&mut self) -> bool {
        let (taken, written) = self.shared.moved();
        let held = self.shared.held.load(Ordering::Relaxed) as u64;
        let before = mem::replace(&mut self.before, (taken, written));
        self.looks += 1;
        // What goes out for a client that takes no answer is the answers to its PINGs.
        let moves = taken > before.0 || written - before.1 >= LEAST;
        self.quiet = if moves { 0 } else { self.quiet + 1 };
        let has_missed_turns = taken - self.since >= TURNS * held;
        self.quiet >= LOOKS
            || self.looks >= LOOKS && has_missed_turns
            || self.looks >= LOOKS * MAX_PERIODS
    }
}

impl Shared {
    fn moved(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.taken), load(&self.written))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body in pieces that are small enough to see progress in.
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
        // Nothing is sent of an empty piece: peers count empty DATA frames, and end a connection that has a hundred.
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

/// The bytes of an answer that hyper takes at once: those of a DATA frame. So no answer's turn is long.
const PIECE: usize = 16 * 1024;

/// How much hyper buffers of an answer beyond what it may send, at most.
pub(crate) const SEND_BUFFER: usize = 2 * PIECE;

/// What the others may have handed out before an answer that waits has missed its turns, for each answer that waits:
/// twice what one of them may have in hyper's buffer.
const TURNS: u64 = 2 * (SEND_BUFFER + PIECE) as u64;

/// How often in a period an answer that waits is looked at. (What hyper has buffered still moves at the first look.)
const LOOKS: u32 = 4;

/// The bytes that the transport of a slow client takes between two looks, at least. Answers to its PINGs are fewer.
pub(crate) const LEAST: u64 = 4 * 1024;

/// After how many periods an answer is given up, however slowly the others move.
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

    /// Looks at an answer that waits until it is stalled; returns after how many looks it is.
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

    /// An answer of a megabyte, which tells when it is dropped.
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

    /// Connects to a server over this transport; also returns when its answers are dropped, and after how long.
    async fn connect(
        (near, far): (DuplexStream, DuplexStream),
        ping: Duration,
    ) -> (
        client::SendRequest<Empty<Bytes>>,
        mpsc::UnboundedReceiver<Duration>,
    ) {
        let answers = Answers::new(PERIOD);
        let (sender, dropped) = mpsc::unbounded_channel();
        let (watched, written) = (answers.clone(), answers.written());
        let serve = service::service_fn(move |_: Request<Incoming>| {
            let body = Body::new(Megabyte(16, sender.clone(), Instant::now()));
            let response = Response::new(watched.watch(body));
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http2::Builder::new(answers);
        builder
            .timer(TokioTimer::new())
            .max_send_buf_size(SEND_BUFFER);
        let far = Idle::new(Foreign(far), PERIOD * 100, PERIOD).counted(written);
        tokio::spawn(builder.serve_connection(TokioIo::new(far), serve));
        let (sender, connection) = client::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ping)
            .initial_connection_window_size(1 << 20)
            .initial_stream_window_size(65_535)
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

    /// A transport that carries 16 KiB in two seconds to the client.
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

    /// Sixty answers share a connection on which each has a turn in two minutes.
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
