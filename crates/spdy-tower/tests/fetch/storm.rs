//! Requests that come, wait and are given up at random, against a server whose connections end or
//! fall silent at random. No place of a connection is lost, and nothing stays open.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::any};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tower::{
    Builder,
    client::{Client, Plain},
};
use tokio::{
    io::DuplexStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::{http1_on, network::Network};

/// A source of numbers that are the same each time.
#[derive(Clone)]
struct Dice(Arc<Mutex<u64>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        )))
    }

    /// Returns a number below a bound.
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % bound
    }

    fn millis(&self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// Responds at once, late, piece by piece, never, or with a body that breaks off.
async fn respond(dice: Dice, is_calm: bool, request: Request) -> Response {
    let choice = if is_calm { 0 } else { dice.below(7) };
    if choice != 1 {
        _ = request.into_body().collect().await;
    }
    match choice {
        2 => sleep(dice.millis(3000)).await,
        3 => std::future::pending().await,
        _ => {}
    }
    let body = match choice {
        4 | 5 => pieces(dice, choice == 5),
        _ => Body::from("ok"),
    };
    Response::new(body)
}

/// Returns a body that comes piece by piece.
fn pieces(dice: Dice, is_broken: bool) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(async move {
        for _ in 0..dice.below(9) {
            sleep(dice.millis(400)).await;
            let piece = Bytes::from(vec![b'x'; 5000]);
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
        if is_broken {
            sender.abort(io::Error::other("broken"));
        }
    });
    Body::new(body)
}

async fn serve(plain: Plain, io: DuplexStream, app: Router) {
    match plain {
        Plain::Spdy(version) => _ = Builder::new().serve_connection(io, version, app).await,
        Plain::Http2 => {
            let service = service_fn(move |request| app.clone().oneshot(request));
            let builder = http2::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection(TokioIo::new(io), service).await;
        }
        _ => http1_on(io, app).await,
    }
}

/// A server that serves each connection for a while, then cuts it or does nothing more. Once it is
/// calm, it serves all of them.
fn server(plain: Plain, dice: &Dice, is_calm: &Arc<AtomicBool>) -> Network {
    let (dice, is_calm) = (dice.clone(), Arc::clone(is_calm));
    Network::new(Duration::from_millis(5), move |io, _| {
        let (dice, calm) = (dice.clone(), is_calm.load(Ordering::Relaxed));
        async move {
            let of_app = dice.clone();
            let app = any(move |request: Request| respond(of_app.clone(), calm, request));
            let serving = serve(plain, io, Router::new().fallback(app));
            if calm {
                return serving.await;
            }
            let mut serving = Box::pin(serving);
            let life = [50, 1000, 10_000][dice.below(3) as usize];
            if timeout(dice.millis(life), &mut serving).await.is_err() && dice.below(2) == 0 {
                // It holds the connection, and does nothing.
                sleep(Duration::from_secs(200)).await;
            }
        }
    })
}

/// Sends a request, reads some of the response, and gives it up at a random moment.
async fn one(client: Client, dice: Dice) {
    sleep(dice.millis(5000)).await;
    let length = [0, 10, 40_000][dice.below(3) as usize];
    let method = ["GET", "PUT", "POST"][dice.below(3) as usize];
    let request = http::Request::builder()
        .method(method)
        .uri("http://a.test/");
    let request = request.body(Full::new(Bytes::from(vec![b'y'; length])));
    let request = async {
        let Ok(response) = client.send(request.unwrap()).await else {
            return;
        };
        let mut body = response.into_body();
        while dice.below(6) > 0 && matches!(body.frame().await, Some(Ok(_))) {}
    };
    let patience = [30, 2000, 60_000][dice.below(3) as usize];
    _ = timeout(dice.millis(patience), request).await;
}

async fn storm(plain: Plain, seed: u64) {
    let what = format!("{plain:?}, seed {seed}");
    let (dice, is_calm) = (Dice::new(seed), Arc::new(AtomicBool::new(false)));
    let network = server(plain, &dice, &is_calm);
    let most = 1 + dice.below(4) as usize;
    let client = Client::new(
        network
            .connector(plain)
            .max_connections(most)
            .max_idle(dice.below(3) as usize)
            .idle_timeout(Duration::from_secs(1))
            .timeout(Duration::from_secs(3)),
    );
    let mut requests = JoinSet::new();
    for _ in 0..40 {
        requests.spawn(one(client.clone(), dice.clone()));
    }
    requests.join_all().await;
    assert!(network.most() <= most, "{what}: {} open", network.most());
    is_calm.store(true, Ordering::Relaxed);
    // By then each connection that is dead has been noticed.
    sleep(Duration::from_secs(100)).await;
    let mut requests = JoinSet::new();
    for _ in 0..2 * most {
        let client = client.clone();
        requests.spawn(async move { super::network::get(&client).await });
    }
    for answer in requests.join_all().await {
        assert_eq!(answer.expect(&what), "ok", "{what}");
    }
    drop(client);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(network.open(), 0, "{what}");
}

#[tokio::test(start_paused = true)]
async fn no_place_is_lost_whatever_requests_and_connections_do() {
    let seeds = std::env::var("STORM_SEEDS").map_or(8, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        for plain in [
            Plain::Http1,
            Plain::Http2,
            Plain::Spdy(Version::V2),
            Plain::Spdy(Version::V3),
            Plain::Spdy(Version::V3_1),
            Plain::Upgrade,
        ] {
            storm(plain, seed).await;
        }
    }
}
