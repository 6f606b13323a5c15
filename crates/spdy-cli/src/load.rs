//! `spdy load`: sends many requests and measures the responses.

mod http2;
mod lane;
mod spdy;
mod tally;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header::USER_AGENT};
use http_body_util::Full;
use tokio::task::JoinSet;

use self::{
    lane::Lane,
    tally::{Report, Tally},
};
use crate::{
    connect::{Connection, Connector, Payload},
    failure::{Exit, Failure, print, print_json},
    flags::Load,
    origin::Url,
};

pub(crate) async fn run(load: Load) -> Result<Exit, Failure> {
    let url = load.reach.reached(&load.url);
    let origin = &url.origin;
    let connector = Connector::new(load.offer()?, &load.reach, origin.is_tls)?;
    let (request, body) = request(&load, &url);
    let is_plain = lane::is_plain(request.headers());
    let mut connections = Vec::new();
    for _ in 0..load.sessions.get() {
        let connected = if is_plain {
            connector.connect_directly(origin).await
        } else {
            connector.connect(origin).await
        };
        match connected {
            Ok(connection) => connections.push(connection),
            Err(failure) => return failure.told(load.json, ("url", &load.url)),
        }
    }
    let lane = |connection| Arc::new(Lane::new(connection, &request, body.clone()));
    let lanes: Vec<_> = connections.iter().map(lane).collect();
    if load.warm_up > 0 {
        phase(&load, &lanes, load.warm_up).await;
    }
    let [received, sent] = bytes(&connections);
    let start = Instant::now();
    let tally = phase(&load, &lanes, load.requests.get()).await;
    let took = start.elapsed();
    let wire = bytes(&connections);
    let report = Report {
        url: load.url.to_string(),
        protocol: connections[0].protocol,
        sessions: load.sessions.get(),
        streams: load.streams.get(),
        requests: load.requests.get(),
        took,
        connect: connect_times(&connections),
        wire: [wire[0] - received, wire[1] - sent],
        tally: tally.sorted(),
    };
    if load.json {
        print_json(&report.json())?;
    } else {
        print(report.to_string().as_bytes())?;
    }
    // A connection ends when nothing uses it.
    drop(lanes);
    let mut ending: JoinSet<()> = connections.into_iter().map(Connection::end).collect();
    while ending.join_next().await.is_some() {}
    Ok(report.exit())
}

/// Returns the request, and its body again.
fn request(load: &Load, url: &Url) -> (Request<Payload>, Option<Bytes>) {
    let body = load
        .body
        .map(|bytes| Bytes::from(vec![b'x'; bytes as usize]));
    let method = match body {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &load.headers {
        headers.append(name, value.clone());
    }
    headers.entry(USER_AGENT).or_insert(AGENT);
    let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = url.uri.clone();
    *request.headers_mut() = headers;
    (request, body)
}

/// Sends `count` requests over all sessions at once.
async fn phase(load: &Load, lanes: &[Arc<Lane>], count: u32) -> Tally {
    let left = Arc::new(AtomicU32::new(count));
    let mut workers = JoinSet::new();
    for lane in lanes {
        for _ in 0..load.streams.get() {
            workers.spawn(work(Arc::clone(lane), Arc::clone(&left)));
        }
    }
    let mut whole = Tally::default();
    while let Some(tally) = workers.join_next().await {
        whole.add(tally.expect("the worker does not panic"));
    }
    let unsent = left.load(Ordering::Relaxed);
    if unsent > 0 {
        whole.failed("not sent: every connection was lost".into(), unsent);
    }
    whole
}

/// Sends one request after the other, until none is left or the connection is lost.
async fn work(lane: Arc<Lane>, left: Arc<AtomicU32>) -> Tally {
    let mut tally = Tally::default();
    while take_one(&left) {
        let start = Instant::now();
        match lane.exchange().await {
            Ok((status, bytes)) => tally.done(status, bytes, start.elapsed()),
            Err(failure) => {
                tally.failed(failure.to_string(), 1);
                if failure.exit == Exit::Connect {
                    break;
                }
            }
        }
    }
    tally
}

/// Takes one of the requests that are left. Returns whether there was one.
fn take_one(left: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
}

/// Returns the bytes received and sent by all connections.
fn bytes(connections: &[Connection]) -> [u64; 2] {
    connections.iter().fold([0, 0], |[received, sent], it| {
        let [more_received, more_sent] = it.wire.bytes();
        [received + more_received, sent + more_sent]
    })
}

/// Returns the minimum, the mean and the maximum of the times that it took to connect.
fn connect_times(connections: &[Connection]) -> [Duration; 3] {
    let times = || connections.iter().map(|connection| connection.took);
    let sum: Duration = times().sum();
    [
        times().min().unwrap_or_default(),
        sum / connections.len().max(1) as u32,
        times().max().unwrap_or_default(),
    ]
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("spdy/", env!("CARGO_PKG_VERSION")));
