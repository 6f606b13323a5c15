//! Code of the application that runs when it is woken or dropped can use the same client.

use std::{
    io,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use spdy_tower::client::{Client, Connector, Dial, Dialing, Plain};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::rustls::RootCertStore;

use super::{
    network::{Network, ask, get},
    trusting,
};

/// Uses a client when it is woken or dropped.
#[derive(Debug)]
struct Uses {
    client: Client,
    /// How often it was used to the end.
    count: AtomicUsize,
}

impl Uses {
    fn new(client: &Client) -> Arc<Self> {
        Arc::new(Self {
            client: client.clone(),
            count: AtomicUsize::new(0),
        })
    }

    fn act(&self) {
        for uri in ["http://a.test/", "http://b.test/"] {
            let request = http::Request::get(uri).body(Empty::<Bytes>::new());
            let sending = pin!(self.client.send(request.unwrap()));
            _ = sending.poll(&mut Context::from_waker(Waker::noop()));
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Uses {
    fn wake(self: Arc<Self>) {
        self.act();
    }
}

/// An error of the network that uses the client when it is dropped.
#[derive(Debug)]
struct Failure(Arc<Uses>);

impl Drop for Failure {
    fn drop(&mut self) {
        self.0.act();
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failure")
    }
}

impl std::error::Error for Failure {}

/// Fails the first connection when it is told to, and makes no other.
#[derive(Clone, Debug, Default)]
struct Fails {
    told: Arc<Notify>,
    with: Arc<Mutex<Option<Failure>>>,
}

impl Dial for Fails {
    fn dial(&self, _: &str, _: u16) -> Dialing {
        let fails = self.clone();
        Box::pin(async move {
            fails.told.notified().await;
            let failure = fails.with.lock().unwrap().take();
            match failure {
                Some(failure) => Err(io::Error::other(failure)),
                None => std::future::pending().await,
            }
        })
    }
}

/// Runs a test on a thread of its own. It fails if the thread waits for a lock that it holds.
fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    ended.expect("the test has panicked, or waits for a lock");
}

#[test]
fn a_task_that_is_woken_because_its_request_is_given_up_can_use_the_client() {
    ends(async || {
        let network = Network::new(Duration::from_secs(5), |_, _| std::future::pending());
        let client = network.client(Plain::Http1);
        let uses = Uses::new(&client);
        let waker = Waker::from(Arc::clone(&uses));
        {
            let request = pin!(get(&client));
            let pending = request.poll(&mut Context::from_waker(&waker));
            assert!(pending.is_pending());
        }
        assert!(uses.count.load(Ordering::Relaxed) > 0, "it is woken");
    });
}

#[test]
fn an_error_that_no_request_waits_for_can_use_the_client_when_it_is_dropped() {
    ends(async || {
        let fails = Fails::default();
        let connector = Connector::new(trusting(RootCertStore::empty()));
        let client = Client::new(connector.dial(fails.clone()));
        let uses = Uses::new(&client);
        *fails.with.lock().unwrap() = Some(Failure(Arc::clone(&uses)));
        let given_up = timeout(Duration::from_millis(1), get(&client)).await;
        assert!(given_up.is_err());
        fails.told.notify_one();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(uses.count.load(Ordering::Relaxed), 1);
    });
}

/// A connection of the shortest idle time is closed when it is not used, and costs nothing while it
/// is.
#[tokio::test(start_paused = true)]
async fn a_connection_without_idle_time_waits_for_its_response_and_is_closed() {
    for plain in [Plain::Http1, Plain::Spdy(spdy_frame::Version::V3_1)] {
        let network = Network::new(Duration::ZERO, move |io, _| async move {
            let router = axum::Router::new().fallback(async || {
                sleep(Duration::from_secs(3)).await;
                "ok"
            });
            match plain {
                Plain::Spdy(version) => {
                    let builder = spdy_tower::Builder::new();
                    _ = builder.serve_connection(io, version, router).await;
                }
                _ => super::http1_on(io, router).await,
            }
        });
        let connector = network.connector(plain).idle_timeout(Duration::ZERO);
        let client = Client::new(connector);
        let start = Instant::now();
        // A task that is always ready stops the clock of the test.
        let response = ask(&client, "GET", "/", "").await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        drop(response);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(network.open(), 0);
    }
}
