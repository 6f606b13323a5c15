//! The connections to an application, and the choice of a connection for each request.

mod exclusive;
mod lease;
mod search;
mod shared;
mod waiting;

use std::{mem, sync::Arc, time::Duration};

use axum::http::{Request, Response};

use self::{
    exclusive::Exclusive,
    lease::Fate,
    search::{Held, Search},
    shared::Shared,
    waiting::{Asked, Placed, Waiting},
};
pub(super) use self::{lease::Lease, shared::Place};
use super::{
    Choice, Failure, Heard, Patience, Proxy, Target, Turn, Upload,
    answer::{Answer, Silence},
    dial::Channel,
    heard::{Cut, Listening},
    upload::Progress,
};

/// The connections to the addresses of an application.
#[derive(Debug)]
pub(super) struct Pool {
    proxy: Arc<Proxy>,
    choice: Arc<Choice>,
    addresses: Vec<Address>,
}

/// The connections to one address.
#[derive(Debug)]
struct Address {
    target: Arc<Target>,
    connections: Connections,
}

#[derive(Debug)]
enum Connections {
    Http1(Arc<Exclusive>),
    Http2(Arc<Shared>),
}

impl Pool {
    pub(super) fn new(proxy: Proxy) -> Self {
        let count = proxy.upstreams().len();
        let choice = Arc::new(Choice::new(count, proxy.down_after, proxy.down_for));
        let proxy = Arc::new(proxy);
        let addresses = Target::all(&proxy, &choice).map(Address::new).collect();
        Self {
            proxy,
            choice,
            addresses,
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.addresses.iter().map(|address| &address.target)
    }

    /// Returns of each address whether it is up, and the number of its requests.
    #[cfg(feature = "metrics")]
    pub(super) fn view(&self) -> Vec<(bool, usize)> {
        self.choice.view()
    }

    /// Sends a request and returns the head of the response. If the future is dropped before that,
    /// the request to the application ends.
    ///
    /// A request that has reached the application is sent again on a new connection if the proxy
    /// still has everything of its body that it has sent. It is sent again once if it is idempotent
    /// and no byte of a response has arrived, and each time that the application reports that it
    /// has not processed it.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Failure> {
        let method = request.method().clone();
        let has_body = !http_body::Body::is_end_stream(request.body());
        let progress = request.body().progress();
        let head = self.copy_of_head(&request);
        if head.is_none() {
            progress.send_once();
        }
        let mut connecting = Patience::new(self.proxy.connect_timeout);
        let mut silence = Patience::new(self.proxy.answer_timeout);
        let mut lease = Search::new(self, None).lease(&mut connecting).await?;
        let mut attempts = 1;
        let mut was_lost = false;
        loop {
            let before = lease.heard().bytes();
            let sending = lease.try_send(request);
            let outcome = tokio::select! {
                biased;
                outcome = progress.or_silent(sending, &mut silence) => outcome,
                failure = progress.failed() => return Err(failure),
            };
            let Some(outcome) = outcome else {
                lease.give_up();
                return Err(Failure::Silent);
            };
            let mut error = match outcome {
                Ok(response) => {
                    progress.answered();
                    lease.note_answer();
                    let silence = Silence::new(self.proxy.answer_timeout, progress);
                    let answer = Answer::new(response, &method, silence, lease);
                    return Ok(answer.map(|answer| answer.answering(has_body)));
                }
                Err(error) => error,
            };
            let mut fate = Fate::Unknown;
            request = match error.take_message() {
                // The application has received nothing of the request.
                Some(unsent) => unsent,
                None => {
                    let error = error.into_error();
                    fate = lease.fate(&error, before);
                    let may_repeat = match fate {
                        Fate::Untouched => attempts < ATTEMPTS,
                        Fate::Lost => method.is_idempotent() && !mem::replace(&mut was_lost, true),
                        Fate::Unknown => false,
                    };
                    let head = head.as_ref().filter(|_| may_repeat);
                    let repeated = head.and_then(|head| Some(head.with(progress.again()?)));
                    progress.charge(&mut silence);
                    repeated.ok_or_else(|| fate.failure(&error))?
                }
            };
            if attempts == ATTEMPTS {
                return Err(Failure::Broken(
                    "the application closes each connection at once".into(),
                ));
            }
            attempts += 1;
            let held = Held {
                lease,
                fate,
                attempts,
            };
            lease = Search::new(self, Some(held)).lease(&mut connecting).await?;
        }
    }

    /// Returns how long a request waits for a place before it asks the last addresses: as long as
    /// one attempt to connect can take.
    fn limit(&self) -> Duration {
        self.addresses[0].target.limit()
    }

    /// Copies the head of a request that might have to be sent twice.
    fn copy_of_head(&self, request: &Request<Upload>) -> Option<Head> {
        let tells_what_it_looked_at = self.proxy.is_http2();
        (tells_what_it_looked_at || request.method().is_idempotent()).then(|| Head::of(request))
    }
}

impl Address {
    fn new(target: Target) -> Self {
        let target = Arc::new(target);
        let connections = if target.proxy.is_http2() {
            Connections::Http2(Arc::new(Shared::new(Arc::clone(&target))))
        } else {
            Connections::Http1(Arc::new(Exclusive::new(Arc::clone(&target))))
        };
        Self {
            target,
            connections,
        }
    }

    /// Takes a place that is free, and waits for its connection within the time of one attempt.
    async fn ask(&self, turn: Turn) -> Result<Asked, Failure> {
        match &self.connections {
            Connections::Http1(pool) => pool.ask(turn).await,
            Connections::Http2(pool) => pool.ask(turn).await,
        }
    }
}

/// Opens a transport that keeps `held` until it is closed.
async fn connect<H>(
    target: &Target,
    held: H,
) -> Result<(Listening<Channel, H>, Heard, Cut), Failure> {
    let io = target.dial().await?;
    Ok(Listening::new(io, held, target.proxy.answer_timeout))
}

/// The head of a request that might be sent twice.
struct Head(Request<()>);

impl Head {
    fn of(request: &Request<Upload>) -> Self {
        let mut copy = Request::new(());
        request.method().clone_into(copy.method_mut());
        request.uri().clone_into(copy.uri_mut());
        request.headers().clone_into(copy.headers_mut());
        *copy.version_mut() = request.version();
        Self(copy)
    }

    fn with(&self, body: Upload) -> Request<Upload> {
        self.0.clone().map(|()| body)
    }
}

/// The maximum number of connections that can end or go away before they take a request.
const ATTEMPTS: usize = 5;

/// How long the rest of a request body can stand still once its response is complete. Then the
/// proxy stops sending it.
const UPLOAD_PAUSE: Duration = Duration::from_secs(3);
