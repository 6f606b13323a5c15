//! Connections on several single-threaded runtimes.

mod common;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

use axum::{Router, routing::get};
use spdy_server::{Config, Drained, Server, Timeouts, Version};
use spdy_tests::panics;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::{Notify, Semaphore, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::common::server::{
    LONG, Running, connect, http1, http2, never, plain, spdy, tls, until_it_drains,
};

/// A runtime on its own thread, which stops when this is dropped.
struct Worker {
    runtime: Handle,
    thread: ThreadId,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        Self {
            runtime: handle,
            thread: thread.thread().id(),
            _stop: stop,
        }
    }
}

async fn start(config: Config, app: Router, workers: &[Worker]) -> Running {
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let server = server.spread(workers.iter().map(|worker| worker.runtime.clone()));
    let (shutdown, asked) = oneshot::channel();
    let task = tokio::spawn(server.run(app, async {
        let _ = asked.await;
    }));
    Running {
        address,
        shutdown,
        task,
        panics: panics::watch(),
    }
}

fn here() -> String {
    format!("{:?}", thread::current().id())
}

/// An application that returns the threads of its requests and of their tasks.
fn app() -> Router {
    Router::new()
        .route("/here", get(async || here()))
        .route(
            "/spawned",
            get(async || tokio::spawn(async { here() }).await.unwrap()),
        )
        .route(
            "/blocking",
            get(async || spawn_blocking(here).await.unwrap()),
        )
}

fn workers(count: usize) -> Vec<Worker> {
    (0..count).map(|_| Worker::start()).collect()
}

fn threads(workers: &[Worker]) -> HashSet<String> {
    let name = |worker: &Worker| format!("{:?}", worker.thread);
    workers.iter().map(name).collect()
}

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn connections_are_spread_evenly_and_what_handlers_spawn_runs_beside_them() {
    let workers = workers(3);
    let server = start(plain(Timeouts::default()), app(), &workers).await;
    let tcp = async || TcpStream::connect(server.address).await.unwrap();
    // Open connections count, so each of these goes to another runtime.
    let mut open = Vec::new();
    let mut seen = HashSet::new();
    for _ in &workers {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tcp().await))
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut ask = async |path: &str| {
            let request = hyper::Request::get(path).header("host", "a");
            let request = request.body(axum::body::Body::empty()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let body = http_body_util::BodyExt::collect(answer.into_body());
            text(&body.await.unwrap().to_bytes())
        };
        let thread = ask("/here").await;
        assert_eq!(ask("/here").await, thread);
        assert_eq!(ask("/spawned").await, thread);
        assert!(!threads(&workers).contains(&ask("/blocking").await));
        seen.insert(thread);
        open.push(sender);
    }
    assert_eq!(seen, threads(&workers));
    drop(open);
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

#[tokio::test]
async fn every_protocol_is_served_away_from_its_listener_in_plain_text_and_over_tls() {
    let workers = workers(2);
    let (secure, roots) = tls("spread");
    for config in [plain(Timeouts::default()), secure] {
        let is_plain = config.binds[0].transport == spdy_server::Transport::Plain;
        let server = start(config, app(), &workers).await;
        let threads = threads(&workers);
        let tcp = async || TcpStream::connect(server.address).await.unwrap();
        let answers = if is_plain {
            [
                text(&spdy(tcp().await, Version::V3_1, "/here").await.1),
                text(&spdy(tcp().await, Version::V2, "/here").await.1),
                text(&http2(tcp().await, "/here").await.1),
                http1(tcp().await, "/here").await,
            ]
        } else {
            let tls = async |id| connect(server.address, roots.clone(), &[id]).await;
            [
                text(&spdy(tls("spdy/3.1").await, Version::V3_1, "/here").await.1),
                text(&spdy(tls("spdy/2").await, Version::V2, "/here").await.1),
                text(&http2(tls("h2").await, "/here").await.1),
                http1(tls("http/1.1").await, "/here").await,
            ]
        };
        for answer in answers {
            let thread = answer.rsplit("\r\n").next().unwrap();
            assert!(threads.contains(thread), "{answer}");
        }
        assert_eq!(
            server.end().await,
            Drained {
                cut: 0,
                unclosed: 0
            }
        );
    }
}

#[tokio::test]
async fn draining_waits_for_requests_on_all_runtimes_and_cuts_the_others_in_time() {
    let workers = workers(2);
    let timeouts = Timeouts {
        drain: Duration::from_secs(5),
        ..Timeouts::default()
    };
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (inside, gate) = (Arc::clone(&entered), Arc::clone(&go));
    let slow = async move || {
        inside.notify_one();
        _ = gate.acquire().await;
    };
    let app = Router::new()
        .route("/slow", get(slow))
        .route("/never", never(&entered));
    let server = start(plain(timeouts), app, &workers).await;
    let address = server.address;
    let ask = |path| {
        tokio::spawn(async move {
            let io = TcpStream::connect(address).await.unwrap();
            let asked = timeout(LONG, has_answer(io, path)).await;
            asked.expect("the connection stayed open")
        })
    };
    let under_way = async || timeout(LONG, entered.notified()).await.unwrap();
    let (mut answered, mut cut) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        answered.push(ask("/slow"));
        under_way().await;
        cut.push(ask("/never"));
        under_way().await;
    }
    let ended = tokio::spawn(server.end());
    until_it_drains(address).await;
    go.close();
    for request in answered {
        assert!(request.await.unwrap());
    }
    assert_eq!(
        ended.await.unwrap(),
        Drained {
            cut: 4,
            unclosed: 0
        }
    );
    for request in cut {
        assert!(!request.await.unwrap());
    }
}

/// Returns whether a response arrived.
async fn has_answer(mut io: TcpStream, path: &str) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200 OK")
}

#[tokio::test]
async fn the_limit_of_connections_is_one_for_all_runtimes() {
    let workers = workers(2);
    let config = Config {
        max_connections: 3,
        ..plain(Timeouts::default())
    };
    let server = start(config, app(), &workers).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(server.address).await.unwrap());
    }
    sleep(Duration::from_millis(50)).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let mut fourth = tokio::spawn(async move { http1(io, "/here").await });
    let early = timeout(Duration::from_millis(200), &mut fourth).await;
    assert!(early.is_err(), "a fourth connection was served");
    open.pop();
    let answer = timeout(LONG, fourth).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_holds_its_thread_holds_up_neither_other_threads_nor_the_listener() {
    let workers = workers(2);
    let (entered, (go, gate)) = (Arc::new(Notify::new()), mpsc::channel());
    let (inside, gate) = (Arc::clone(&entered), Arc::new(Mutex::new(gate)));
    let hold = async move || {
        inside.notify_one();
        _ = gate.lock().unwrap().recv_timeout(2 * LONG);
    };
    let app = app().route("/hog", get(hold));
    let server = start(plain(Timeouts::default()), app, &workers).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let hog = tokio::spawn(async move { http1(io, "/hog").await });
    timeout(LONG, entered.notified()).await.unwrap();
    // The other thread has fewer connections.
    let io = TcpStream::connect(server.address).await.unwrap();
    let answer = timeout(LONG, http1(io, "/here")).await;
    assert!(answer.expect("it was held up").starts_with("HTTP/1.1 200"));
    assert!(!hog.is_finished());
    go.send(()).unwrap();
    hog.await.unwrap();
}
