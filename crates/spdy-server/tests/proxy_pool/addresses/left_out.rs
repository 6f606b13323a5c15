//! Addresses that are left out because no connection to them opens, and how they come back.

use super::*;

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

/// Each request has half of the time to connect to one of two addresses.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_connect_to_an_address_that_is_left_out_one_after_another() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Few, Does::Fail]);
        options.max_connections = 8;
        let app = proxy(options);
        posts(&app, 8).await;
        farm.does(1, Does::Hang);
        let held = [(); 8].map(|()| hold(&app));
        sleep(SECOND).await;
        let before = farm.dials()[1];
        let waits = [(); 8].map(|()| full::ask(&app));
        sleep(CONNECT / 2 + SECOND).await;
        assert_eq!(farm.dials()[1], before + 1, "{scheme}");
        for one in waits {
            let late = (Err(StatusCode::SERVICE_UNAVAILABLE), CONNECT);
            assert_eq!(one.await.unwrap(), late, "{scheme}");
        }
        let most = if scheme == "h2://" { 2 } else { 1 };
        assert!(farm.dials()[1] <= before + most, "{scheme}");
        // Those that wait for the outcome go on together when it is back.
        sleep(CONNECT).await;
        let waits = [(); 8].map(|()| full::ask(&app));
        // A connection of HTTP/2 serves them all.
        farm.does(1, if most == 1 { Does::Late } else { Does::Serve });
        for one in waits {
            let (outcome, took) = one.await.unwrap();
            assert_eq!(outcome, Ok(1), "{scheme}");
            assert!(took <= CONNECT / 2 + 2 * SECOND, "{scheme} {took:?}");
        }
        farm.release.notify_waiters();
        for one in held {
            assert_eq!(one.await.unwrap(), Ok(0), "{scheme}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_addresses_are_left_out_a_crowd_connects_to_each_one_after_another() {
    for scheme in ["http://", "h2://"] {
        let (options, farm) = Farm::new(scheme, &[Does::Fail; 2]);
        let app = proxy(options);
        posts(&app, 3).await;
        (0..2).for_each(|index| farm.does(index, Does::Hang));
        let before = farm.dials();
        let crowd = [(); 50].map(|()| full::ask(&app));
        for one in crowd {
            let late = (Err(StatusCode::GATEWAY_TIMEOUT), CONNECT);
            assert_eq!(one.await.unwrap(), late, "{scheme}");
        }
        // In the time of a request two can try each address, one after another. Over HTTP/2 a third
        // begins at its end.
        let dials = farm.dials();
        let most = if scheme == "h2://" { 3 } else { 2 };
        let is_few = |index: usize| dials[index] <= before[index] + most;
        assert!(is_few(0) && is_few(1), "{scheme} {dials:?}");
        sleep(CONNECT).await;
        farm.does(0, Does::Serve);
        for one in [(); 50].map(|()| full::ask(&app)) {
            assert_eq!(one.await.unwrap().0, Ok(0), "{scheme}");
        }
    }
}

/// Three requests, two seconds apart. The first one connects, and the turn of the second one comes
/// when it has not enough time left to try.
#[tokio::test(start_paused = true)]
async fn a_request_whose_turn_to_connect_comes_late_waits_to_the_end_of_its_time() {
    for comes_back in [true, false] {
        let (options, farm) = Farm::new("http://", &[Does::Fail]);
        let app = proxy(options);
        posts(&app, 3).await;
        farm.does(0, Does::Hang);
        let first = full::ask(&app);
        sleep(2 * SECOND).await;
        let second = full::ask(&app);
        sleep(2 * SECOND).await;
        let third = full::ask(&app);
        sleep(SECOND / 2).await;
        if comes_back {
            farm.does(0, Does::Serve);
        }
        let late = (Err(StatusCode::GATEWAY_TIMEOUT), CONNECT);
        assert_eq!(first.await.unwrap(), late);
        let outcomes = [second.await.unwrap(), third.await.unwrap()];
        let expected = match comes_back {
            true => [(Ok(0), 3 * SECOND), (Ok(0), SECOND)],
            false => [late; 2],
        };
        assert_eq!(outcomes, expected);
        assert_eq!(farm.dials(), [5 + usize::from(comes_back)]);
    }
}
