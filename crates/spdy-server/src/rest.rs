//! Closes HTTP/2 connections without requests.
//!
//! hyper sends PING whether requests are open or not. So a client that replies could keep an unused
//! connection, and its place, forever: [`Idle`](crate::idle::Idle) counts replies like other bytes.
//! This module counts requests. It asks a connection that has had none for long enough to finish,
//! and drops the connection if it does not, because hyper waits without a limit for the client to
//! read the rest of the responses, to answer the PING that precedes the end, or to begin at all. A
//! server that drains asks, too.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::{
    config::{after, countable},
    linger::Owed,
    stall::{Answers, MAX_PERIODS},
};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: AtomicUsize,
    /// The number of times that a request has begun or ended.
    changes: AtomicU64,
}

/// An open request, for as long as this lives.
pub(crate) struct Open(Arc<Requests>);

impl Open {
    pub(crate) fn new(requests: &Arc<Requests>) -> Self {
        requests.open.fetch_add(1, Ordering::Relaxed);
        requests.changes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has to happen to a connection without requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The connection has had no request for long enough: ask it to finish.
    Rest,
    /// The connection was asked to finish, and its client answers nothing, although it has
    /// everything: drop it.
    Mute,
    /// The connection was asked to finish, and its client does not read the rest of the responses:
    /// drop it.
    Stuck,
}

/// Notices that a connection has had no request for one or two periods, and then that it does not
/// finish.
///
/// A request ends here when hyper has its whole response, of which hyper can still hold 48 KiB.
/// hyper waits without a limit for the client to read them.
#[derive(Debug)]
pub(crate) struct Rest {
    answers: Answers,
    requests: Arc<Requests>,
    /// Knows when the transport waits for the end of the client, which has limits of its own.
    owed: Owed,
    /// How long a client can read nothing once the connection was asked to finish.
    write: Duration,
    period: Duration,
    alarm: Pin<Box<Sleep>>,
    before: Seen,
    /// There once the connection was asked to finish.
    finishing: Option<Finishing>,
}

#[derive(Clone, Copy, Debug)]
struct Finishing {
    /// The number of times in a row that the alarm rang without a request.
    rung: u32,
    /// Whether the client had every response when the alarm was set.
    was_sent: bool,
}

/// The counters at the time when the alarm was set.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    changes: u64,
    sent: u64,
}

impl Rest {
    pub(crate) fn new(answers: Answers, owed: Owed, period: Duration, write: Duration) -> Self {
        Self {
            requests: answers.requests(),
            answers,
            owed,
            write,
            period,
            alarm: Box::pin(sleep(countable(period))),
            before: Seen::default(),
            finishing: None,
        }
    }

    /// Notes that the connection is asked to finish now, because the server drains.
    pub(crate) fn drain(&mut self) {
        if self.finishing.is_none() {
            self.before = self.now();
            self.begin_to_finish();
            self.alarm.as_mut().reset(after(self.period));
        }
    }

    /// Returns whether everything is written, and only the end of the client is waited for.
    pub(crate) fn is_lingering(&self) -> bool {
        self.owed.is_lingering()
    }

    /// Returns whether the transport has passed on everything that it was given.
    pub(crate) fn is_flushed(&self) -> bool {
        self.answers.outflow().is_flushed()
    }

    fn begin_to_finish(&mut self) {
        self.go_on_to_finish(0, self.answers.are_sent());
    }

    fn go_on_to_finish(&mut self, rung: u32, was_sent: bool) {
        self.finishing = Some(Finishing { rung, was_sent });
        self.period = match was_sent {
            true => ANSWER.min(self.write),
            false => self.write,
        };
    }

    /// Completes once when there were no requests for long enough, and again when the connection
    /// does not finish and its client reads nothing, or too little for too long.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let over = self.look();
            self.alarm.as_mut().reset(after(self.period));
            if let Some(over) = over {
                return Poll::Ready(over);
            }
        }
    }

    fn now(&self) -> Seen {
        Seen {
            changes: self.requests.changes.load(Ordering::Relaxed),
            sent: self.answers.outflow().data(),
        }
    }

    fn look(&mut self) -> Option<Over> {
        let now = self.now();
        let before = mem::replace(&mut self.before, now);
        let is_open = self.requests.open.load(Ordering::Relaxed) > 0;
        let is_unused = !is_open && now.changes == before.changes;
        let Some(Finishing { rung, was_sent }) = self.finishing else {
            if is_unused {
                self.begin_to_finish();
            }
            return is_unused.then_some(Over::Rest);
        };
        if !is_unused || self.is_lingering() {
            self.begin_to_finish();
            return None;
        }
        let (rung, are_sent) = (rung + 1, self.answers.are_sent());
        self.go_on_to_finish(rung, are_sent);
        // What it had the time for is over or has just begun.
        let is_quiet = now.sent == before.sent && are_sent == was_sent;
        let is_over = is_quiet || rung >= MAX_PERIODS;
        is_over.then_some(match are_sent {
            true => Over::Mute,
            false => Over::Stuck,
        })
    }
}

/// How long a client that has every response has to answer the PING that precedes the end, or to
/// begin: as long as the transport waits for its end.
const ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use axum::{Router, routing::get};
    use bytes::Bytes;
    use http::Request;
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http2 as client;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::duplex,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::{auto, config::Config};

    /// A client whose windows have room for one byte of each response, and which replies to every
    /// PING.
    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_whose_client_does_not_take_the_ends_of_its_answers() {
        let config = Config::default();
        let app = Router::new().route("/", get(async || vec![0; 16 * 1024]));
        let (near, far) = duplex(65_536);
        let start = Instant::now();
        let served = tokio::spawn(auto::Builder::new().serve_connection(far, app));
        let (mut sender, connection) = client::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1)
            .handshake(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut unread = Vec::new();
        for _ in 0..200 {
            let request = Request::get("http://a/").body(Empty::<Bytes>::new());
            unread.push(sender.send_request(request.unwrap()).await.unwrap());
        }
        let hour = Duration::from_secs(3600);
        let end = timeout(hour, served).await.expect("the connection goes on");
        assert!(end.unwrap().is_err(), "a cut connection has ended well");
        let most = config.timeouts.idle * 2 + config.timeouts.write * 2;
        assert!(start.elapsed() <= most, "{:?}", start.elapsed());
    }

    const PERIOD: Duration = Duration::from_secs(180);
    const WRITE: Duration = Duration::from_secs(30);

    /// Returns the responses of a connection, of which hyper has 16 KiB that have not left.
    async fn answers() -> Answers {
        let answers = Answers::new(WRITE);
        let body = axum::body::Body::from(vec![0; 16 * 1024]);
        answers.watch(body).frame().await.unwrap().unwrap();
        answers
    }

    /// Returns how long a connection that was asked to finish lasts while this number of bytes
    /// leaves in each second.
    async fn finishing(bytes: u64, answers: &Answers) -> Duration {
        let outflow = answers.outflow();
        let mut rest = Rest::new(answers.clone(), Owed::default(), PERIOD, WRITE);
        let leaving = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                outflow.add(bytes);
            }
        });
        assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Rest);
        let asked = Instant::now();
        assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Stuck);
        leaving.abort();
        asked.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_the_rest_slowly_is_waited_for_ten_times_as_long() {
        let answers = answers().await;
        assert_eq!(finishing(0, &answers).await.as_secs(), WRITE.as_secs());
        let most = WRITE * MAX_PERIODS;
        assert_eq!(finishing(1, &answers).await.as_secs(), most.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_everything_has_a_moment_to_answer() {
        let (answers, owed) = (Answers::new(WRITE), Owed::default());
        let mut rest = Rest::new(answers, owed, PERIOD, WRITE);
        rest.drain();
        let asked = Instant::now();
        assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Mute);
        assert_eq!(asked.elapsed(), ANSWER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_found_not_to_have_everything_has_as_long_as_any_write() {
        let answers = Answers::new(WRITE);
        let mut rest = Rest::new(answers.clone(), Owed::default(), PERIOD, WRITE);
        rest.drain();
        answers.outflow().set_unflushed(true);
        let asked = Instant::now();
        assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Stuck);
        assert_eq!(asked.elapsed(), ANSWER + WRITE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_just_taken_everything_has_a_moment_to_answer() {
        let (answers, before) = (Answers::new(WRITE), Duration::from_millis(100));
        answers.outflow().set_unflushed(true);
        let mut rest = Rest::new(answers.clone(), Owed::default(), PERIOD, WRITE);
        rest.drain();
        let asked = Instant::now();
        tokio::spawn(async move {
            sleep(WRITE - before).await;
            answers.outflow().set_unflushed(false);
        });
        assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Mute);
        assert_eq!(asked.elapsed(), WRITE + ANSWER);
    }

    /// Each flush could be that of the answer to a PING.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_everything_at_times_is_not_waited_for_without_end() {
        let answers = Answers::new(WRITE);
        let mut rest = Rest::new(answers.clone(), Owed::default(), PERIOD, WRITE);
        rest.drain();
        let asked = Instant::now();
        tokio::spawn(async move {
            sleep(ANSWER / 2).await;
            loop {
                answers.outflow().set_unflushed(true);
                sleep(WRITE).await;
                answers.outflow().set_unflushed(false);
                sleep(ANSWER).await;
            }
        });
        let over = timeout(WRITE * 100, poll_fn(|cx| rest.poll_over(cx))).await;
        assert_eq!(over, Ok(Over::Mute));
        assert_eq!(asked.elapsed(), (ANSWER + WRITE) * (MAX_PERIODS / 2));
    }

    /// The transport has limits of its own for that, which are longer than a short write timeout.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_only_waits_for_the_end_of_its_client_is_not_stuck() {
        let short = Duration::from_secs(1);
        for answers in [Answers::new(short), answers().await] {
            let owed = Owed::default();
            let mut rest = Rest::new(answers, owed.clone(), PERIOD, short);
            assert_eq!(poll_fn(|cx| rest.poll_over(cx)).await, Over::Rest);
            let (io, _client) = duplex(64);
            let mut io = crate::linger::Linger::new(io, owed);
            _ = timeout(Duration::ZERO, tokio::io::AsyncWriteExt::shutdown(&mut io)).await;
            let over = timeout(PERIOD, poll_fn(|cx| rest.poll_over(cx))).await;
            assert!(over.is_err(), "{over:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_is_not_cut_though_nothing_leaves() {
        let answers = answers().await;
        let late = answers.requests();
        tokio::spawn(async move {
            sleep(PERIOD + WRITE / 2).await;
            let _open = Open::new(&late);
            sleep(PERIOD).await;
        });
        let lasted = finishing(0, &answers).await;
        assert!(
            PERIOD + WRITE <= lasted && lasted <= PERIOD + WRITE * 3,
            "{lasted:?}"
        );
    }
}
