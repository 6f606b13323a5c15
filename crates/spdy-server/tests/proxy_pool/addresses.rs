//! Several addresses of one application: which of them a request gets, which are left out, and that
//! each has bounds of its own.

mod farm;
mod full;
mod left_out;
mod storm;

use self::farm::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

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
        // All together have the time of one attempt to connect.
        (0..2).for_each(|index| farm.does(index, Does::Hang));
        let begun = Instant::now();
        assert!(!upstreams.accept().await, "{scheme}");
        assert_eq!(begun.elapsed(), CONNECT / 2, "{scheme}");
        assert_eq!(farm.dials(), [4, 4], "{scheme}");
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
