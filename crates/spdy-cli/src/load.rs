//! `spdy load`: sends many requests and measures the responses.

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
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;

use self::tally::{Report, Tally};
use crate::{
    connect::{Connection, Connector, Payload, Requests, reason},
    failure::{Exit, Failure, print, print_json},
    flags::Load,
    origin::Url,
};

pub(crate) async fn run(load: Load) -> Result<Exit, Failure> {
    let url = load.reach.reached(&load.url);
    let origin = &url.origin;
    let connector = Connector::new(load.offer()?, &load.reach, origin.is_tls)?;
    let mut connections = Vec::new();
    for _ in 0..load.sessions.get() {
        match connector.connect(origin).await {
            Ok(connection) => connections.push(connection),
            Err(failure) => return failure.told(load.json, ("url", &load.url)),
        }
    }
    let request = request(&load, &url);
    if load.warm_up > 0 {
        phase(&load, &connections, &request, load.warm_up).await;
    }
    let [received, sent] = bytes(&connections);
    let start = Instant::now();
    let tally = phase(&load, &connections, &request, load.requests.get()).await;
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
    let mut ending: JoinSet<()> = connections.into_iter().map(Connection::end).collect();
    while ending.join_next().await.is_some() {}
    Ok(report.exit())
}

fn request(load: &Load, url: &Url) -> Request<Payload> {
    let bytes = load
        .body
        .map(|bytes| Bytes::from(vec![b'x'; bytes as usize]));
    let method = match bytes {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &load.headers {
        headers.append(name, value.clone());
    }
    headers.entry(USER_AGENT).or_insert(AGENT);
    let mut request = Request::new(Full::new(bytes.unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = url.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Sends `count` requests over all sessions at once.
async fn phase(
    load: &Load,
    connections: &[Connection],
    request: &Request<Payload>,
    count: u32,
) -> Tally {
    let left = Arc::new(AtomicU32::new(count));
    let mut workers = JoinSet::new();
    for connection in connections {
        for _ in 0..load.streams.get() {
            let requests = connection.requests.clone();
            workers.spawn(work(requests, request.clone(), Arc::clone(&left)));
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
async fn work(requests: Requests, request: Request<Payload>, left: Arc<AtomicU32>) -> Tally {
    let mut tally = Tally::default();
    while take_one(&left) {
        let start = Instant::now();
        match exchange(&requests, request.clone()).await {
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

/// Sends a request, and returns the status of the response and the length of its body.
async fn exchange(requests: &Requests, request: Request<Payload>) -> Result<(u16, u64), Failure> {
    let (head, mut body) = requests.send(request).await?.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(Exit::Exchange, reason(&error)))?;
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok((head.status.as_u16(), bytes))
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
