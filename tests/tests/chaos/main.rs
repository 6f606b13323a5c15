//! Chaos: 200 requests at once to an origin at which everything goes wrong that can, by the client
//! and by the proxy.
//!
//! Transports are in memory and the clock is paused, so the bounds on time are exact and a round
//! takes some milliseconds. For each request: it fails to connect at the timeout that is set and
//! never later, an answer that is there is given at once, what ends without an error is whole, and
//! it reaches the origin once, or twice if it is idempotent. For all together: there are never more
//! connections than allowed; when the origin is well again all requests are answered; and in the
//! end no connection and no task is left.
//!
//! A round is made from its seed alone. `CHAOS_ROUNDS=n` sets how many there are, and
//! `CHAOS_SEED=n` runs that one again and tells its story. What other threads of the process do has
//! no part in it, but the order in which hash maps and `select!` look at things is not in our
//! hands: a seed that has failed fails nearly always.

mod asking;
mod books;
mod by_client;
mod by_proxy;
mod dice;
mod origin;
mod tls;
mod wire;

use std::{panic, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::{
    asking::{Asker, Bounds, Outcome, RequestBody, SLACK},
    dice::Dice,
    origin::Origin,
};

/// So many take a few seconds in a debug build.
const ROUNDS: u64 = 20;
const REQUESTS: u64 = 200;

/// What meets in a round.
struct Round<A> {
    asker: Arc<A>,
    origin: Arc<Origin>,
    bounds: Bounds,
    max_connections: usize,
    /// How many requests may find a connection that has frozen while it rested.
    frozen: usize,
}

#[test]
fn each_request_of_the_client_ends_within_its_bounds_at_a_faulty_origin() {
    run(by_client::round);
}

#[test]
fn each_request_of_the_proxy_ends_within_its_bounds_at_a_faulty_application() {
    run(by_proxy::round);
}

fn run<A: Asker>(round: impl Fn(&mut Dice) -> Round<A>) {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let (first, rounds) = match number("CHAOS_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CHAOS_ROUNDS").unwrap_or(ROUNDS)),
    };
    let is_told = rounds == 1;
    for seed in first..first + rounds {
        let played = panic::catch_unwind(panic::AssertUnwindSafe(|| play(seed, is_told, &round)));
        if let Err(cause) = played {
            eprintln!("the round of CHAOS_SEED={seed} fails");
            panic::resume_unwind(cause);
        }
    }
}

fn play<A: Asker>(seed: u64, is_told: bool, round: impl Fn(&mut Dice) -> Round<A>) {
    let _watch = spdy_tests::panics::watch();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let mut dice = Dice::new(seed);
        let round = round(&mut dice);
        let books = round.origin.books.clone();
        let playing = panic::AssertUnwindSafe(round.play(&mut dice));
        let played = futures_util::FutureExt::catch_unwind(playing).await;
        if is_told {
            books.print();
        }
        if let Err(cause) = played {
            panic::resume_unwind(cause);
        }
    });
}

impl<A: Asker> Round<A> {
    async fn play(self, dice: &mut Dice) {
        asking::crowd(&self.asker, &self.origin, self.bounds, dice, REQUESTS).await;
        self.thaws().await;
        self.recovers().await;
        let books = self.origin.books.clone();
        let most = books.lock().most;
        assert!(most <= self.max_connections, "{most} connections were open");
        self.leaves_nothing().await;
    }

    /// When all connections have frozen, each of them takes one request at most: one that is given
    /// up. They freeze when those that rest above the limit are closed.
    async fn thaws(&self) {
        self.origin.calm_down();
        sleep(self.bounds.connect + SURPLUS + SLACK).await;
        self.origin.freeze();
        self.origin.books.tell("all connections freeze");
        // A proxy gives up by itself, and says so.
        let answer = self.bounds.answer;
        let patience = self.bounds.connect + answer.unwrap_or_default() + SLACK;
        let mut given_up = 0;
        for id in REQUESTS..REQUESTS + 12 {
            let asking = Arc::clone(&self.asker).ask(get(id));
            let asked = timeout(patience, asking).await;
            let what = asked.as_ref().map_or("given up", Outcome::reason);
            self.origin.books.tell(format_args!("frozen /{id}: {what}"));
            match asked {
                Ok(Outcome::Answer(..)) => {}
                Ok(Outcome::Failed(error)) if answer.is_none() => panic!("/{id} fails: {error}"),
                Ok(_) | Err(_) => given_up += 1,
            }
        }
        let frozen = self.frozen;
        assert!(
            given_up <= frozen,
            "{given_up} requests were given up, not {frozen}"
        );
    }

    /// When the origin is well again, and what has frozen is found out, each request is answered at
    /// once.
    async fn recovers(&self) {
        sleep(QUIET).await;
        let resting = self.origin.books.lock().open;
        assert_eq!(resting, 0, "connections are open that no request uses");
        for id in REQUESTS + 20..REQUESTS + 40 {
            let begun = Instant::now();
            let outcome = Arc::clone(&self.asker).ask(post(id)).await;
            let Outcome::Answer(_, body) = outcome else {
                panic!(
                    "/{id} fails though the origin is well: {}",
                    outcome.reason()
                )
            };
            let body = body.collect().await;
            assert!(body.is_ok(), "/{id}: {body:?}");
            assert!(
                begun.elapsed() <= Duration::from_millis(100),
                "/{id} is slow"
            );
        }
        self.serves_a_queue().await;
    }

    /// As many connections as are allowed serve those that wait, one after the other.
    async fn serves_a_queue(&self) {
        let mut requests = JoinSet::new();
        for id in REQUESTS + 40..REQUESTS + 60 {
            let asker = Arc::clone(&self.asker);
            requests.spawn(async move {
                let Outcome::Answer(_, body) = asker.ask(get(id)).await else {
                    panic!("/{id} fails though there is time for all")
                };
                assert!(body.collect().await.is_ok(), "/{id}");
            });
        }
        while let Some(request) = requests.join_next().await {
            if let Err(error) = request {
                panic::resume_unwind(error.into_panic());
            }
        }
    }

    async fn leaves_nothing(self) {
        let Self { asker, origin, .. } = self;
        drop(asker);
        sleep(QUIET).await;
        let open = origin.books.lock().open;
        assert_eq!(open, 0, "connections are left");
        origin.end();
        sleep(SLACK).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 0, "tasks are left");
    }
}

fn get(id: u64) -> Request<RequestBody> {
    with_method(Method::GET, id)
}

fn post(id: u64) -> Request<RequestBody> {
    with_method(Method::POST, id)
}

fn with_method(method: Method, id: u64) -> Request<RequestBody> {
    let body = Empty::<Bytes>::new().map_err(|e| match e {});
    let request = Request::builder()
        .method(method)
        .uri(format!("https://a.test/{id}"));
    let request = request.body(body.boxed_unsync());
    request.expect("its parts are valid")
}

impl Outcome {
    fn reason(&self) -> &str {
        match self {
            Self::Answer(..) => "answered",
            Self::ConnectTimeout(error) | Self::Failed(error) => error,
        }
    }
}

/// How long a client keeps idle connections above the limit.
const SURPLUS: Duration = Duration::from_secs(3);

/// Longer than an idle timeout, and than keep-alive takes to find a server that is gone.
const QUIET: Duration = Duration::from_secs(130);
