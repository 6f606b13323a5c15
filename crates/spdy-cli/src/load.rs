//! `spdy load`: sends many requests and measures the responses.

mod http2;
mod lane;
mod plan;
mod spdy;
mod tally;

use std::{
    future::pending,
    io::{self, IsTerminal},
    mem,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header::USER_AGENT};
use http_body_util::Full;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{lane::Lane, plan::Plan, tally::Report};
use crate::{
    connect::{Connection, Connector, Payload},
    failure::{Exit, Failure, print, print_json},
    flags::{Load, WarmUp},
    get::{contents, put_fields},
    http2::{CONNECTION_WINDOW, STREAM_WINDOW},
    interrupt::Interrupt,
    origin::Url,
};

pub(crate) async fn run(load: Load) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let urls: Vec<_> = load
        .urls
        .iter()
        .map(|url| load.reach.reached(url))
        .collect();
    let origin = &urls[0].origin;
    if urls.iter().any(|url| url.origin != *origin) {
        let message = "all URLs must have the same scheme, host and port";
        return Err(Failure::new(Exit::Usage, message));
    }
    let connector = Connector::new(load.offer()?, &load.reach, origin.is_tls)?
        .windows(STREAM_WINDOW, CONNECTION_WINDOW);
    let body = body(&load)?;
    let requests: Vec<_> = urls
        .iter()
        .map(|url| request(&load, url, body.as_ref()))
        .collect();
    let is_plain = lane::is_plain(requests[0].headers());
    let mut connections = Vec::new();
    for _ in 0..load.sessions.get() {
        let connecting = async {
            if is_plain {
                connector.connect_directly(origin).await
            } else {
                connector.connect(origin).await
            }
        };
        let connected = tokio::select! {
            connected = connecting => connected,
            () = interrupt.heard() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        match connected {
            Ok(connection) => connections.push(connection),
            Err(failure) => return failure.told(load.json, ("url", &load.urls[0])),
        }
    }
    let patience = load.reach.connect_timeout;
    let lane = |connection| Arc::new(Lane::new(connection, &requests, body.as_ref(), patience));
    let lanes: Vec<_> = connections.iter().map(lane).collect();
    let rate = load.rate.map(NonZeroU32::get);
    let (count, time) = match load.warm_up {
        None => (Some(0), None),
        Some(WarmUp::Requests(count)) => (Some(count.into()), None),
        Some(WarmUp::Time(time)) => (None, Some(time)),
    };
    phase(&load, &lanes, Plan::new(count, rate), time, &interrupt).await;
    let [received, sent] = bytes(&connections);
    let start = Instant::now();
    let count = load.duration.is_none().then(|| load.requests.get().into());
    let plan = Plan::new(count, rate);
    let (plan, is_interrupted) = phase(&load, &lanes, plan, load.duration, &interrupt).await;
    let took = start.elapsed();
    let wire = bytes(&connections);
    let mut tally = mem::take(&mut *plan.tally());
    let unfinished = plan.begun() - tally.responses() - tally.errors();
    if plan.left() > 0 && !is_interrupted {
        tally.failed("not sent: every connection was lost".into(), plan.left());
    }
    let report = Report {
        urls: load.urls.iter().map(Url::to_string).collect(),
        protocol: connections[0].protocol,
        sessions: load.sessions.get(),
        streams: load.streams.get(),
        requests: count
            .filter(|_| !is_interrupted)
            .unwrap_or_else(|| plan.begun()),
        rate,
        unfinished,
        is_interrupted,
        took,
        connect: connect_times(&connections),
        wire: [wire[0] - received, wire[1] - sent],
        tally,
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

/// Returns the body of the requests, if they have one.
fn body(load: &Load) -> Result<Option<Bytes>, Failure> {
    let Some(data) = &load.data else {
        let bytes = load.body.map(|bytes| vec![b'x'; bytes as usize].into());
        return Ok(bytes);
    };
    match data.strip_prefix('@') {
        Some(name) => contents(name).map(|bytes| Some(bytes.into())),
        None => Ok(Some(Bytes::copy_from_slice(data.as_bytes()))),
    }
}

fn request(load: &Load, url: &Url, body: Option<&Bytes>) -> Request<Payload> {
    let default = match body {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, AGENT);
    put_fields(&mut headers, &load.headers);
    let mut request = Request::new(Full::new(body.cloned().unwrap_or_default()));
    *request.method_mut() = load.method.clone().unwrap_or(default);
    *request.uri_mut() = url.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// Sends the requests of a plan over all sessions at once, until none is left, or `time` is over,
/// or Ctrl-C ends it. Returns the plan with its results, and whether it was Ctrl-C.
async fn phase(
    load: &Load,
    lanes: &[Arc<Lane>],
    plan: Plan,
    time: Option<Duration>,
    interrupt: &Interrupt,
) -> (Arc<Plan>, bool) {
    let plan = Arc::new(plan);
    let mut workers = JoinSet::new();
    for lane in lanes {
        for _ in 0..load.streams.get() {
            workers.spawn(work(Arc::clone(lane), Arc::clone(&plan), load.timeout));
        }
    }
    let over = async {
        match time {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    };
    let done = async {
        while let Some(worker) = workers.join_next().await {
            worker.expect("the worker does not panic");
        }
    };
    let is_interrupted = tokio::select! {
        () = done => false,
        () = over => false,
        () = interrupt.heard() => true,
        () = show(&plan) => unreachable!("it shows the progress until it is dropped"),
    };
    workers.shutdown().await;
    (plan, is_interrupted)
}

/// Shows the progress on a terminal.
async fn show(plan: &Plan) {
    if !io::stderr().is_terminal() {
        return pending().await;
    }
    let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
    // It disappears when it is dropped.
    let bar = ProgressBar::new_spinner().with_style(style);
    loop {
        sleep(REFRESH).await;
        bar.set_message(plan.line());
        bar.tick();
    }
}

/// Sends one request after the other, until none is left or the server cannot be reached.
async fn work(lane: Arc<Lane>, plan: Arc<Plan>, limit: Duration) {
    while let Some((number, start)) = plan.next().await {
        let outcome = timeout(limit, lane.exchange(number)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(lane.late(number, limit)));
        let took = start.elapsed();
        match outcome {
            Ok((status, bytes)) => plan.tally().done(status, bytes, took),
            Err(failure) => {
                plan.tally().failed(failure.to_string(), 1);
                if failure.exit == Exit::Connect {
                    break;
                }
            }
        }
    }
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

/// The time between two lines of progress.
const REFRESH: Duration = Duration::from_millis(250);
