//! An application at several addresses, each of which does what a test says.

use std::sync::{Mutex, atomic::AtomicBool};

use tokio::sync::Notify;

use super::*;

/// What an address does with connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    Serve,
    Refuse,
    /// It cannot be reached for another reason.
    Fail,
    /// This machine has no port left for a connection to it.
    Short,
    /// It does not answer an attempt to connect.
    Hang,
    /// It accepts connections, and says nothing on them.
    Mute,
    /// It serves connections, and does not respond to requests.
    Silent,
    /// It opens connections of HTTP/2, and says nothing more on them.
    Dead,
    /// It accepts connections, reads the first bytes, and closes them.
    Close,
    /// It looks at no request, and says so after a second.
    GoAway,
    /// It takes one request at a time on each connection.
    Few,
    /// It does the same after a second for each connection.
    Late,
    /// It answers a request when it has some of it, and reads on.
    Early,
}

/// An application at several addresses.
pub(super) struct Farm {
    scheme: &'static str,
    addresses: Mutex<Vec<(Does, usize)>>,
    /// The number of requests for `/poison`.
    pub(super) poisoned: AtomicUsize,
    pub(super) release: Arc<Notify>,
    /// Whether a connection that was used before ends at its next request.
    pub(super) chance: AtomicBool,
}

impl Farm {
    /// Returns the addresses, and a proxy for them.
    pub(super) fn new(scheme: &'static str, all: &[Does]) -> (Proxy, Arc<Self>) {
        let farm = Arc::new(Self {
            scheme,
            addresses: Mutex::new(all.iter().map(|does| (*does, 0)).collect()),
            poisoned: AtomicUsize::new(0),
            release: Arc::default(),
            chance: AtomicBool::new(false),
        });
        let upstream = |index| format!("{scheme}{index}.test").parse().unwrap();
        let first = Proxy::new(upstream(0));
        let mut proxy = (1..all.len())
            .map(upstream)
            .try_fold(first, Proxy::also)
            .unwrap();
        proxy.retry_refused = Duration::ZERO;
        let dialed = Arc::clone(&farm);
        let proxy = proxy.connectors(move |upstream| {
            let text = upstream.to_string();
            let digits = |text: &str| text.split('.').next()?.parse().ok();
            let index = digits(text.split("//").nth(1).unwrap()).unwrap();
            Arc::clone(&dialed).dial(index)
        });
        (proxy, farm)
    }

    pub(super) fn does(&self, index: usize, what: Does) {
        self.addresses.lock().unwrap()[index].0 = what;
    }

    /// Returns how often each address was dialed.
    pub(super) fn dials(&self) -> Vec<usize> {
        let addresses = self.addresses.lock().unwrap();
        addresses.iter().map(|(_, dials)| *dials).collect()
    }

    async fn dial(self: Arc<Self>, index: usize) -> io::Result<DuplexStream> {
        let does = {
            let address = &mut self.addresses.lock().unwrap()[index];
            address.1 += 1;
            address.0
        };
        let (near, mut far) = duplex(65536);
        match does {
            Does::Serve | Does::Few | Does::Late => {
                let places = if let Does::Serve = does { 200 } else { 1 };
                if let Does::Late = does {
                    sleep(SECOND).await;
                }
                let end = Arc::new(Notify::new());
                let app = self.application(index, &end);
                let serving = serve_on(self.scheme, far, app, places);
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = end.notified() => {}
                    }
                });
            }
            Does::Silent => {
                let silent = Router::new().fallback(pending::<()>);
                tokio::spawn(serve_on(self.scheme, far, silent, 200));
            }
            Does::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
            Does::Fail => return Err(io::ErrorKind::HostUnreachable.into()),
            Does::Short => return Err(io::ErrorKind::AddrNotAvailable.into()),
            Does::Hang => pending().await,
            Does::Mute => {
                tokio::spawn(async move { while let Ok(1..) = far.read(&mut [0; 4096]).await {} });
            }
            Does::Dead => {
                tokio::spawn(async move {
                    _ = far.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
                    while let Ok(1..) = far.read(&mut [0; 4096]).await {}
                });
            }
            Does::Close => {
                tokio::spawn(async move { far.read(&mut [0; 4096]).await });
            }
            Does::GoAway => {
                tokio::spawn(repeating::go_away(far));
            }
            Does::Early => {
                tokio::spawn(answer(far, |text| {
                    Some(if text.starts_with("POST") { EARLY } else { "" })
                }));
            }
        }
        Ok(near)
    }

    /// Answers with the index of the address, and `/held` only once it is released. `/ends` ends
    /// the connection then, and `/poison` ends it and the address.
    fn application(self: &Arc<Self>, index: usize, end: &Arc<Notify>) -> Router {
        let (release, farm) = (Arc::clone(&self.release), Arc::clone(self));
        let (chance, used) = (Arc::clone(self), Arc::new(AtomicUsize::new(0)));
        let (end, ends, ended) = (Arc::clone(end), Arc::clone(end), Arc::clone(end));
        let releases = Arc::clone(&self.release);
        let ends_when_released = async move || {
            releases.notified().await;
            ended.notify_one();
            pending::<()>().await;
        };
        let held = async move || {
            release.notified().await;
            index.to_string()
        };
        let poison = async move || {
            farm.poisoned.fetch_add(1, Relaxed);
            farm.does(index, Does::Refuse);
            end.notify_one();
            pending::<()>().await;
        };
        Router::new()
            .route("/held", axum::routing::any(held))
            .route("/ends", axum::routing::any(ends_when_released))
            .route("/poison", axum::routing::any(poison))
            .route("/busy", axum::routing::get(StatusCode::SERVICE_UNAVAILABLE))
            .fallback(async move || {
                if used.fetch_add(1, Relaxed) > 0 && chance.chance.load(Relaxed) {
                    ends.notify_one();
                    pending::<()>().await;
                }
                index.to_string()
            })
    }
}

/// What the first address answers.
const EARLY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n0";

/// Serves a connection until it ends.
async fn serve_on(scheme: &str, io: DuplexStream, app: Router, places: u32) {
    let service = hyper_util::service::TowerToHyperService::new(app);
    if scheme == "h2://" {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(places);
        _ = builder.serve_connection(TokioIo::new(io), service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        _ = builder.serve_connection(TokioIo::new(io), service).await;
    }
}

/// Sends a request that must not be sent twice. Returns the address that has answered it, or the
/// status.
pub(super) async fn post(app: &Router, path: &str) -> Result<usize, StatusCode> {
    let request = Request::post(path).body(Body::from("x")).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    match status {
        StatusCode::OK => Ok(str::from_utf8(&body).unwrap().parse().unwrap()),
        status => Err(status),
    }
}

/// Returns what this number of requests get, one after another.
pub(super) async fn posts(app: &Router, number: usize) -> Vec<Result<usize, StatusCode>> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(post(app, "/").await);
    }
    all
}

pub(super) fn hold(app: &Router) -> tokio::task::JoinHandle<Result<usize, StatusCode>> {
    let app = app.clone();
    tokio::spawn(async move { post(&app, "/held").await })
}
