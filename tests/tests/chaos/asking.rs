//! The requests of a round, and what must be true of each.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    books::Books,
    dice::Dice,
    origin::{Origin, content},
};

/// What sends requests to an origin: a client, or a proxy.
pub(crate) trait Asker: Send + Sync + 'static {
    /// Sends a request and waits for the head of the answer.
    fn ask(self: Arc<Self>, request: Request<RequestBody>) -> impl Future<Output = Outcome> + Send;

    /// How long a request may take until the head of its answer is there, at the very most.
    fn patience(&self) -> Duration;
}

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// What came of a request.
pub(crate) enum Outcome {
    Answer(HeaderMap, UnsyncBoxBody<Bytes, String>),
    /// There was no connection in time.
    ConnectTimeout(String),
    Failed(String),
}

/// Bounds on the time of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connect: Duration,
    /// The least part of `connect` in which one address is given up.
    pub(crate) part: Duration,
    /// How long the origin may be silent, where that is bounded by what sends the requests.
    pub(crate) answer: Option<Duration>,
    /// Whether a request may wait for a stream of a connection that is there.
    pub(crate) may_wait_for_streams: bool,
}

/// Sends this number of requests concurrently.
pub(crate) async fn crowd<A: Asker>(
    asker: &Arc<A>,
    origin: &Arc<Origin>,
    bounds: Bounds,
    dice: &mut Dice,
    count: u64,
) {
    let mut requests = JoinSet::new();
    for id in 0..count {
        let one = One {
            id,
            method: dice.pick(&METHODS),
            asker: Arc::clone(asker),
            books: origin.books.clone(),
            bounds,
            dice: dice.fork(),
        };
        requests.spawn(one.run());
    }
    while let Some(request) = requests.join_next().await {
        if let Err(error) = request {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

const METHODS: [Method; 5] = [
    Method::GET,
    Method::GET,
    Method::GET,
    Method::PUT,
    Method::POST,
];

struct One<A> {
    id: u64,
    method: Method,
    asker: Arc<A>,
    books: Books,
    bounds: Bounds,
    dice: Dice,
}

impl<A: Asker> One<A> {
    async fn run(mut self) {
        sleep(self.dice.millis(0..3000)).await;
        let (request, sent) = self.request();
        let begun = Instant::now();
        let is_impatient = self.dice.percent(15);
        let patience = if is_impatient {
            self.dice.millis(0..1000)
        } else {
            self.asker.patience()
        };
        let asked = timeout(patience, Arc::clone(&self.asker).ask(request)).await;
        self.tell(begun, &asked);
        match asked {
            Err(_) => {
                let is_bounded = self.bounds.answer.is_some() && !is_impatient;
                assert!(!is_bounded, "/{} waits for ever", self.id);
                self.was_right_to_give_up();
            }
            Ok(Outcome::ConnectTimeout(_)) => self.was_connecting(begun),
            Ok(Outcome::Failed(error)) => {
                self.had_reason_to_fail(&error);
                self.has_ended_in_time(begun);
            }
            Ok(Outcome::Answer(fields, body)) => {
                self.came_in_time(begun);
                self.is_whole(&fields, body, sent).await;
            }
        }
        self.has_not_come_too_often();
    }

    fn request(&mut self) -> (Request<RequestBody>, usize) {
        let has_body = self.method != Method::GET && self.dice.percent(70);
        let length = if has_body {
            self.dice.below(1..20_000) as usize
        } else {
            0
        };
        let body = Bytes::from(vec![b'b'; length]);
        let body = if self.dice.percent(50) {
            Full::new(body).map_err(|e| match e {}).boxed_unsync()
        } else {
            slowly(body).boxed_unsync()
        };
        let uri = format!("https://a.test/{}", self.id);
        let request = Request::builder().method(self.method.clone()).uri(uri);
        (request.body(body).expect("its parts are valid"), length)
    }

    fn tell(&self, begun: Instant, asked: &Result<Outcome, tokio::time::error::Elapsed>) {
        let what = match asked {
            Err(_) => "given up",
            Ok(Outcome::Answer(..)) => "answered",
            Ok(Outcome::ConnectTimeout(error) | Outcome::Failed(error)) => error,
        };
        let (id, method, took) = (self.id, &self.method, begun.elapsed());
        self.books
            .tell(format_args!("{method} /{id} after {took:?}: {what}"));
    }

    /// An answer that was there would have been given.
    fn was_right_to_give_up(&self) {
        let request = self.books.request(self.id);
        if let Some(answered) = request.sound_answer() {
            let late = answered.elapsed();
            assert!(late <= SLACK, "/{} was held back for {late:?}", self.id);
        }
    }

    /// All attempts together have the time of one, to connect and for the answer.
    fn has_ended_in_time(&self, begun: Instant) {
        let Bounds {
            connect, answer, ..
        } = self.bounds;
        if let Some(answer) = answer {
            let waited = begun.elapsed();
            let most = connect + answer + UPLOAD + SLACK;
            assert!(waited <= most, "/{} took {waited:?}", self.id);
        }
    }

    /// The timeout is the one that is set, or with several addresses the part of the last one. The
    /// time on a connection that did not take the request does not count.
    fn was_connecting(&self, begun: Instant) {
        let waited = begun.elapsed();
        let Bounds {
            connect,
            part,
            may_wait_for_streams,
            ..
        } = self.bounds;
        if !self.books.request(self.id).came.is_empty() {
            return;
        }
        let is_right =
            waited + SLACK >= part && (may_wait_for_streams || waited <= connect + SLACK);
        assert!(is_right, "/{} waited {waited:?} for a connection", self.id);
    }

    fn had_reason_to_fail(&self, error: &str) {
        let answer = self.books.request(self.id).sound_answer();
        assert!(answer.is_none(), "/{} has an answer: {error}", self.id);
    }

    /// Neither the connection nor the answer took longer than it may.
    fn came_in_time(&self, begun: Instant) {
        let request = self.books.request(self.id);
        let first = *request.came.first().expect("an answer is to a request");
        let connecting = first - begun;
        assert!(
            self.bounds.may_wait_for_streams || connecting <= self.bounds.connect + SLACK,
            "/{} came after {connecting:?}",
            self.id
        );
        if let Some(answered) = request.sound_answer() {
            let late = answered.elapsed();
            assert!(late <= SLACK, "/{} was held back for {late:?}", self.id);
        }
    }

    /// What ends without an error is whole.
    async fn is_whole(&self, fields: &HeaderMap, body: UnsyncBoxBody<Bytes, String>, sent: usize) {
        let number = |name| -> Option<usize> { fields.get(name)?.to_str().ok()?.parse().ok() };
        let length = number("x-length").expect("each answer has it");
        if let Some(read) = number("x-read") {
            assert_eq!(read, sent, "body of the request /{}", self.id);
        }
        match timeout(self.asker.patience(), body.collect()).await {
            Ok(Ok(body)) => {
                let body = body.to_bytes();
                assert_eq!(body.len(), length, "body of /{}", self.id);
                assert_eq!(body, content(self.id, length), "body of /{}", self.id);
            }
            Ok(Err(error)) => self.had_reason_to_fail(&error),
            Err(_) => {
                let answer = self.books.request(self.id).sound_answer();
                assert!(answer.is_none(), "the body of /{} was held back", self.id);
            }
        }
    }

    fn has_not_come_too_often(&self) {
        let came = self.books.request(self.id).came.len();
        let most = if self.method.is_idempotent() { 2 } else { 1 };
        assert!(
            came <= most,
            "{} /{} came {came} times",
            self.method,
            self.id
        );
    }
}

/// A body in pieces with pauses between them.
fn slowly(
    whole: Bytes,
) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static {
    StreamBody::new(futures_util::stream::unfold(whole, |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(Duration::from_millis(1)).await;
        let piece = rest.split_to(rest.len().min(5000));
        Some((Ok(http_body::Frame::data(piece)), rest))
    }))
}

/// What a body takes that is sent in pieces. The silence of the origin begins behind it.
const UPLOAD: Duration = Duration::from_millis(10);

/// Moments that follow each other without a wait are a millisecond apart at most; a few of them may
/// come together.
pub(crate) const SLACK: Duration = Duration::from_millis(5);
