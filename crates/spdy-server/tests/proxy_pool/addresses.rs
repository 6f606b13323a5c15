//! Several addresses of one application: which of them a request gets, which are left out, and that
//! each has bounds of its own.

mod full;
mod storm;

use std::sync::{Mutex, atomic::AtomicBool};

use tokio::sync::Notify;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What an address does with connections.
#[derive(Clone, Copy, Debug)]
enum Does {
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
struct Farm {
    scheme: &'static str,
    addresses: Mutex<Vec<(Does, usize)>>,
    /// The number of requests for `/poison`.
    poisoned: AtomicUsize,
    release: Arc<Notify>,
    /// Whether a connection that was used before ends at its next request.
    chance: AtomicBool,
}

impl Farm {
    /// Returns the addresses, and a proxy for them.
    fn new(scheme: &'static str, all: &[Does]) -> (Proxy, Arc<Self>) {
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

    fn does(&self, index: usize, what: Does) {
        self.addresses.lock().unwrap()[index].0 = what;
    }

    /// Returns how often each address was dialed.
    fn dials(&self) -> Vec<usize> {
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
async fn post(app: &Router, path: &str) -> Result<usize, StatusCode> {
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
async fn posts(app: &Router, number: usize) -> Vec<Result<usize, StatusCode>> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(post(app, "/").await);
    }
    all
}

fn hold(app: &Router) -> tokio::task::JoinHandle<Result<usize, StatusCode>> {
    let app = app.clone();
    tokio::spawn(async move { post(&app, "/held").await })
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_the_address_with_the_fewest_and_else_by_turn() {
    for scheme in ["http://", "h2://"] {
        let (options, farm) = Farm::new(scheme, &[Does::Serve; 3]);
        let app = proxy(options);
        let quick = posts(&app, 6).await;
        assert_eq!(quick, [0, 1, 2, 0, 1, 2].map(Ok), "{scheme}");
        let held = [hold(&app), hold(&app)];
        sleep(SECOND).await;
        assert_eq!(posts(&app, 4).await, [Ok(2); 4], "{scheme}");
        farm.release.notify_waiters();
        for (index, held) in held.into_iter().enumerate() {
            assert_eq!(held.await.unwrap(), Ok(index), "{scheme}");
        }
        let quick = posts(&app, 3).await;
        assert_eq!(quick, [0, 1, 2].map(Ok), "{scheme}");
        // Each connection was used again, and a held one was replaced or shared.
        let most = if scheme == "h2://" { 1 } else { 2 };
        assert!(farm.dials().iter().all(|dials| *dials <= most), "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_where_no_connection_can_be_opened() {
    for scheme in ["http://", "h2://"] {
        for (does, after) in [
            (Does::Refuse, Duration::ZERO),
            (Does::Fail, Duration::ZERO),
            (Does::Hang, CONNECT / 2),
        ] {
            let (options, farm) = Farm::new(scheme, &[does, Does::Serve]);
            let app = proxy(options);
            let mut failed = 0;
            while failed < 3 {
                let begun = Instant::now();
                assert_eq!(post(&app, "/").await, Ok(1), "{scheme} {does:?}");
                let took = begun.elapsed();
                assert!([Duration::ZERO, after].contains(&took), "{scheme} {took:?}");
                failed = farm.dials()[0];
            }
            // It is left out now.
            let begun = Instant::now();
            assert_eq!(posts(&app, 10).await, [Ok(1); 10], "{scheme} {does:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO);
            assert_eq!(farm.dials(), [3, 1], "{scheme} {does:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_this_machine_lacks_takes_no_address_down_and_keeps_none_out() {
    for scheme in ["http://", "h2://"] {
        let (options, farm) = Farm::new(scheme, &[Does::Short, Does::Serve]);
        let app = proxy(options);
        assert_eq!(posts(&app, 20).await, [Ok(1); 20], "{scheme}");
        assert!(farm.dials()[0] > 3, "{scheme}: it was left out");
        farm.does(0, Does::Refuse);
        let down = farm.dials()[0] + 3;
        for _ in 0..20 {
            assert_eq!(post(&app, "/").await, Ok(1), "{scheme}");
        }
        assert_eq!(farm.dials()[0], down, "{scheme}: it is left out");
        farm.does(0, Does::Short);
        sleep(10 * SECOND).await;
        // A trial without an outcome is followed by another one.
        assert_eq!(posts(&app, 4).await, [Ok(1); 4], "{scheme}");
        assert_eq!(farm.dials()[0], down + 4, "{scheme}");
        farm.does(0, Does::Serve);
        let mut quick = posts(&app, 4).await;
        quick.sort_unstable();
        assert_eq!(quick, [0, 0, 1, 1].map(Ok), "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_for_which_this_machine_has_no_connection_is_503() {
    for scheme in ["http://", "h2://"] {
        let (options, farm) = Farm::new(scheme, &[Does::Short; 2]);
        let app = proxy(options);
        let outcome = post(&app, "/").await;
        assert_eq!(outcome, Err(StatusCode::SERVICE_UNAVAILABLE), "{scheme}");
        assert_eq!(farm.dials(), [1, 1], "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_opens_one_connection_to_each_address_beside_those_for_requests() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Few; 2]);
        options.max_connections = 1;
        let (app, upstreams) = options.build();
        let held = [hold(&app), hold(&app)];
        sleep(SECOND).await;
        assert_eq!(farm.dials(), [1, 1], "{scheme}");
        assert!(upstreams.accept().await, "{scheme}");
        assert_eq!(farm.dials(), [2, 2], "{scheme}");
        farm.release.notify_waiters();
        for one in held {
            assert!(one.await.unwrap().is_ok(), "{scheme}");
        }
        (0..2).for_each(|index| farm.does(index, Does::Refuse));
        assert!(!upstreams.accept().await, "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_without_settings_is_one_without_a_connection() {
    let (options, farm) = Farm::new("h2://", &[Does::Mute, Does::Serve]);
    let app = proxy(options);
    let begun = Instant::now();
    assert_eq!(post(&app, "/").await, Ok(1));
    assert_eq!(begun.elapsed(), CONNECT / 2);
    while farm.dials()[0] < 3 {
        assert_eq!(post(&app, "/").await, Ok(1));
    }
    assert_eq!(posts(&app, 10).await, [Ok(1); 10]);
    assert_eq!(farm.dials(), [3, 1]);
}

#[tokio::test(start_paused = true)]
async fn many_addresses_have_a_second_each() {
    let (options, farm) = Farm::new("http://", &[Does::Hang; 20]);
    let begun = Instant::now();
    let outcome = post(&proxy(options), "/").await;
    assert_eq!(outcome, Err(StatusCode::GATEWAY_TIMEOUT));
    assert_eq!(begun.elapsed(), CONNECT);
    assert_eq!(farm.dials().iter().sum::<usize>(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_left_out_is_tried_by_one_request_and_comes_back() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Refuse, Does::Serve]);
        options.down_after = 2;
        options.down_for = 7 * SECOND;
        let app = proxy(options);
        posts(&app, 10).await;
        let down = Instant::now();
        assert_eq!(farm.dials()[0], 2, "{scheme}");
        for round in 1..4 {
            sleep(7 * SECOND - Duration::from_millis(1)).await;
            posts(&app, 10).await;
            assert_eq!(farm.dials()[0], 1 + round, "{scheme}");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(posts(&app, 10).await, [Ok(1); 10], "{scheme}");
            assert_eq!(farm.dials()[0], 2 + round, "{scheme}");
        }
        assert_eq!(down.elapsed(), 21 * SECOND);
        // While one request tries it, the others do not wait.
        farm.does(0, Does::Hang);
        sleep(7 * SECOND).await;
        let crowd = [(); 10].map(|()| {
            let app = app.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                (post(&app, "/").await, begun.elapsed())
            })
        });
        let mut took = Vec::new();
        for one in crowd {
            let (outcome, elapsed) = one.await.unwrap();
            assert_eq!(outcome, Ok(1), "{scheme}");
            took.push(elapsed);
        }
        took.sort_unstable();
        assert_eq!(took[8..], [Duration::ZERO, CONNECT / 2], "{scheme}");
        assert_eq!(farm.dials()[0], 6, "{scheme}");
        farm.does(0, Does::Serve);
        assert_eq!(posts(&app, 4).await, [Ok(1); 4], "{scheme}");
        sleep(7 * SECOND).await;
        let mut quick = posts(&app, 4).await;
        quick.sort_unstable();
        assert_eq!(quick, [0, 0, 1, 1].map(Ok), "{scheme}");
    }
}

/// Takes the first of two addresses down, which has connections at rest afterwards.
async fn take_down_at_rest(app: &Router, farm: &Farm, places: usize) {
    let held: Vec<_> = (0..2 * places).map(|_| hold(app)).collect();
    sleep(SECOND).await;
    farm.does(0, Does::Fail);
    while farm.dials()[0] < 4 {
        assert_eq!(post(app, "/").await, Ok(1));
    }
    farm.release.notify_waiters();
    for one in held {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(posts(app, 4).await, [Ok(1); 4]);
}

#[tokio::test(start_paused = true)]
async fn an_address_comes_back_by_a_request_on_a_connection_that_was_open_all_the_time() {
    for (scheme, places) in [("http://", 1), ("h2://", 200)] {
        let (options, farm) = Farm::new(scheme, &[Does::Serve; 2]);
        let app = proxy(options);
        take_down_at_rest(&app, &farm, places).await;
        sleep(10 * SECOND).await;
        let mut quick = posts(&app, 4).await;
        quick.sort_unstable();
        assert_eq!(quick, [0, 0, 1, 1].map(Ok), "{scheme}");
        assert_eq!(farm.dials()[0], 4, "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_leave_at_once_do_not_keep_an_address_out() {
    let (options, farm) = Farm::new("http://", &[Does::Refuse, Does::Serve]);
    let app = proxy(options);
    posts(&app, 10).await;
    assert_eq!(farm.dials()[0], 3);
    farm.does(0, Does::Hang);
    sleep(10 * SECOND).await;
    for _ in 0..5 {
        let hasty = [(); 2].map(|()| timeout(SECOND / 100, post(&app, "/")));
        for one in hasty {
            _ = one.await;
        }
    }
    assert_eq!(farm.dials()[0], 8);
    farm.does(0, Does::Serve);
    let mut quick = posts(&app, 4).await;
    quick.sort_unstable();
    assert_eq!(quick, [0, 0, 1, 1].map(Ok));
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_at_its_address_until_its_upload_is_over() {
    let (options, _farm) = Farm::new("http://", &[Does::Early, Does::Serve]);
    let app = proxy(options);
    let (upload, body) = mpsc::unbounded_channel();
    upload.send(Bytes::from_static(b"hello")).unwrap();
    let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "0");
    assert_eq!(posts(&app, 4).await, [Ok(1); 4]);
    drop(upload);
    sleep(SECOND).await;
    let mut quick = posts(&app, 4).await;
    quick.sort_unstable();
    assert_eq!(quick, [0, 0, 1, 1].map(Ok));
}

#[tokio::test(start_paused = true)]
async fn where_all_addresses_are_left_out_all_are_tried() {
    for scheme in ["http://", "h2://"] {
        let (options, farm) = Farm::new(scheme, &[Does::Refuse; 3]);
        let app = proxy(options);
        for round in 1..10 {
            let outcome = post(&app, "/").await;
            assert_eq!(outcome, Err(StatusCode::BAD_GATEWAY), "{scheme}");
            assert_eq!(farm.dials(), [round; 3], "{scheme}");
        }
        farm.does(1, Does::Serve);
        assert_eq!(post(&app, "/").await, Ok(1), "{scheme}");
        let dials = farm.dials();
        assert_eq!(posts(&app, 5).await, [Ok(1); 5], "{scheme}");
        assert_eq!(farm.dials(), dials, "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_that_start_again_are_waited_for_together() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Refuse, Does::Fail]);
        options.retry_refused = 3 * SECOND;
        let app = proxy(options);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move { post(&app, "/").await })
            })
            .collect();
        sleep(2 * SECOND).await;
        // Each request has asked once, and then one in each pause has.
        let dials = farm.dials();
        assert!(dials.iter().all(|dials| *dials < 120), "{scheme} {dials:?}");
        farm.does(1, Does::Serve);
        let begun = Instant::now();
        for one in waiting {
            assert_eq!(one.await.unwrap(), Ok(1), "{scheme}");
        }
        let took = begun.elapsed();
        assert!(took <= Duration::from_millis(640), "{scheme} {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn neither_responses_nor_clients_that_leave_soon_take_an_address_down() {
    let (options, farm) = Farm::new("http://", &[Does::Serve; 2]);
    let app = proxy(options);
    for _ in 0..20 {
        assert_eq!(status(app.clone(), "/busy").await, 503);
    }
    assert_eq!(posts(&app, 4).await, [0, 1, 0, 1].map(Ok));

    // Of two addresses each has half of the time.
    for (leaves_after, is_down) in [(CONNECT / 4 - SECOND / 10, false), (CONNECT / 4, true)] {
        let (options, farm) = Farm::new("http://", &[Does::Hang, Does::Hang]);
        let app = proxy(options);
        for _ in 0..10 {
            let left = timeout(leaves_after, post(&app, "/")).await;
            assert!(left.is_err());
        }
        farm.does(1, Does::Serve);
        while post(&app, "/").await != Ok(1) {}
        let before = farm.dials()[0];
        assert_eq!(posts(&app, 3).await, [Ok(1); 3]);
        assert_eq!(farm.dials()[0] == before, is_down, "{leaves_after:?}");
    }
    drop(farm);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_its_addresses_reaches_two_at_most() {
    for scheme in ["http://", "h2://"] {
        for (method, wanted) in [("GET", 2), ("PUT", 2), ("POST", 1)] {
            let (options, farm) = Farm::new(scheme, &[Does::Serve; 5]);
            let app = proxy(options);
            // Only a connection that was used before can have ended by chance.
            assert!(posts(&app, 10).await.iter().all(Result::is_ok));
            let request = Request::builder().method(method).uri("/poison");
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{scheme}");
            let poisoned = farm.poisoned.load(Relaxed);
            assert_eq!(poisoned, wanted, "{scheme} {method}");
            assert!(posts(&app, 10).await.iter().all(Result::is_ok));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_by_chance_is_replaced_at_the_same_address() {
    let (options, farm) = Farm::new("http://", &[Does::Serve; 2]);
    let app = proxy(options);
    assert_eq!(posts(&app, 2).await, [0, 1].map(Ok));
    // The application has just closed its connections, which were at rest.
    farm.chance.store(true, Relaxed);
    for index in [0, 1] {
        let response = get(app.clone(), "/").await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, index.to_string());
    }
    assert_eq!(farm.dials(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn each_address_has_places_of_its_own_and_gets_them_back() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Serve; 2]);
        options.max_connections = 1;
        let app = proxy(options);
        let places = if scheme == "h2://" { 200 } else { 1 };
        for _ in 0..3 {
            let held: Vec<_> = (0..2 * places).map(|_| hold(&app)).collect();
            sleep(SECOND).await;
            let begun = Instant::now();
            let outcome = post(&app, "/").await;
            assert_eq!(outcome, Err(StatusCode::SERVICE_UNAVAILABLE), "{scheme}");
            assert_eq!(begun.elapsed(), CONNECT, "{scheme}");
            farm.release.notify_waiters();
            let mut of_each = [0; 2];
            for one in held {
                of_each[one.await.unwrap().unwrap()] += 1;
            }
            assert_eq!(of_each, [places; 2], "{scheme}");
        }
        assert_eq!(farm.dials(), [1, 1], "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_address_holds_up_no_request_while_another_has_a_place() {
    let (mut options, farm) = Farm::new("h2://", &[Does::Few, Does::Serve]);
    options.max_connections = 1;
    let app = proxy(options);
    let held = [hold(&app), hold(&app)];
    sleep(SECOND).await;
    let begun = Instant::now();
    // Each has one request, so it would be the turn of the first.
    assert_eq!(posts(&app, 4).await, [Ok(1); 4]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    farm.release.notify_waiters();
    for (index, one) in held.into_iter().enumerate() {
        assert_eq!(one.await.unwrap(), Ok(index));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_left_out_is_asked_before_a_request_fails_for_want_of_a_place() {
    for (scheme, places) in [("http://", 1), ("h2://", 200)] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Serve, Does::Refuse]);
        options.max_connections = 1;
        let app = proxy(options);
        posts(&app, 10).await;
        assert_eq!(farm.dials(), [1, 3], "{scheme}");
        let held: Vec<_> = (0..places).map(|_| hold(&app)).collect();
        sleep(SECOND).await;
        // It is still of no use, so the request waits for a place to the end.
        let begun = Instant::now();
        let outcome = post(&app, "/").await;
        assert_eq!(outcome, Err(StatusCode::SERVICE_UNAVAILABLE), "{scheme}");
        assert_eq!(begun.elapsed(), CONNECT, "{scheme}");
        assert_eq!(farm.dials(), [1, 4], "{scheme}");
        farm.does(1, Does::Serve);
        let begun = Instant::now();
        assert_eq!(post(&app, "/").await, Ok(1), "{scheme}");
        assert_eq!(begun.elapsed(), CONNECT / 2, "{scheme}");
        // It is back, and the other one has more requests.
        assert_eq!(posts(&app, 4).await, [Ok(1); 4], "{scheme}");
        farm.release.notify_waiters();
        for one in held {
            assert_eq!(one.await.unwrap(), Ok(0), "{scheme}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_left_out_is_asked_where_the_other_looks_at_no_request() {
    let (mut options, farm) = Farm::new("h2://", &[Does::GoAway, Does::Refuse]);
    options.down_after = 1;
    let app = proxy(options);
    let outcome = post(&app, "/").await;
    assert_eq!(outcome, Err(StatusCode::SERVICE_UNAVAILABLE));
    farm.does(1, Does::Serve);
    let begun = Instant::now();
    assert_eq!(post(&app, "/").await, Ok(1));
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_keeps_no_place_and_holds_up_no_other() {
    for (scheme, does) in [
        ("http://", Does::Mute),
        ("http://", Does::Silent),
        ("h2://", Does::Silent),
    ] {
        let (mut options, farm) = Farm::new(scheme, &[does, Does::Serve]);
        options.max_connections = 1;
        options.answer_timeout = SECOND;
        let app = proxy(options);
        for _ in 0..10 {
            let asked = app.clone();
            let silent = tokio::spawn(async move { post(&asked, "/").await });
            sleep(SECOND / 2).await;
            // The other address has fewer requests.
            let begun = Instant::now();
            assert_eq!(posts(&app, 5).await, [Ok(1); 5], "{scheme} {does:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO, "{scheme} {does:?}");
            let late = Err(StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(silent.await.unwrap(), late, "{scheme} {does:?}");
            assert_eq!(post(&app, "/").await, late, "{scheme} {does:?}");
            assert_eq!(post(&app, "/").await, Ok(1), "{scheme} {does:?}");
        }
        farm.does(0, Does::Serve);
        // Its connection is closed by then.
        sleep(ANSWER).await;
        let mut quick = posts(&app, 4).await;
        quick.sort_unstable();
        assert_eq!(quick, [0, 0, 1, 1].map(Ok), "{scheme} {does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_looked_at_goes_to_another_address() {
    let (options, farm) = Farm::new("h2://", &[Does::GoAway, Does::Serve]);
    let app = proxy(options);
    let held = [(); 3].map(|()| hold(&app));
    sleep(2 * SECOND).await;
    // The other address has more requests, but it looks at them.
    let begun = Instant::now();
    assert_eq!(post(&app, "/").await, Ok(1));
    assert_eq!(begun.elapsed(), SECOND);
    farm.release.notify_waiters();
    for one in held {
        assert_eq!(one.await.unwrap(), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_closes_each_connection_costs_no_request_that_was_not_sent() {
    let (options, farm) = Farm::new("h2://", &[Does::Close, Does::Serve]);
    let app = proxy(options);
    assert_eq!(posts(&app, 10).await, [Ok(1); 10]);
    assert!(farm.dials()[0] <= 6, "{:?}", farm.dials());
}
