//! Addresses that are full: a request waits at all of them, and at none while another has a place.

use super::*;

pub(super) fn ask(app: &Router) -> tokio::task::JoinHandle<(Result<usize, StatusCode>, Duration)> {
    let app = app.clone();
    tokio::spawn(async move {
        let begun = Instant::now();
        (post(&app, "/").await, begun.elapsed())
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_place_at_all_of_them_at_once() {
    for scheme in ["http://", "h2://"] {
        for leaves in 0..3 {
            let (mut options, farm) = Farm::new(scheme, &[Does::Few; 3]);
            options.max_connections = 1;
            let app = proxy(options);
            let held = [(); 3].map(|()| hold(&app));
            sleep(SECOND).await;
            let waits = ask(&app);
            sleep(SECOND).await;
            held[leaves].abort();
            assert_eq!(waits.await.unwrap(), (Ok(leaves), SECOND), "{scheme}");
            // It has left the queues of the others.
            assert_eq!(posts(&app, 2).await, [Ok(leaves); 2], "{scheme}");
            farm.release.notify_waiters();
            sleep(SECOND).await;
            let again = [(); 3].map(|()| hold(&app));
            sleep(SECOND).await;
            farm.release.notify_waiters();
            let mut of_each = [0; 3];
            for one in again {
                of_each[one.await.unwrap().unwrap()] += 1;
            }
            assert_eq!(of_each, [1; 3], "{scheme}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_have_places_in_the_order_of_their_arrival() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Few; 2]);
        options.max_connections = 1;
        let app = proxy(options);
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(hold(&app));
            sleep(SECOND / 100).await;
        }
        for pair in all.chunks_mut(2) {
            sleep(SECOND / 2).await;
            farm.release.notify_waiters();
            let mut pair = [
                (&mut pair[0]).await.unwrap().unwrap(),
                (&mut pair[1]).await.unwrap().unwrap(),
            ];
            pair.sort_unstable();
            assert_eq!(pair, [0, 1], "{scheme}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_while_an_address_that_is_left_out_is_asked() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Few, Does::Refuse]);
        options.max_connections = 1;
        options.down_after = 1;
        let app = proxy(options);
        posts(&app, 2).await;
        farm.does(1, Does::Hang);
        let held = hold(&app);
        sleep(SECOND).await;
        let waits = ask(&app);
        sleep(3 * SECOND).await;
        assert_eq!(farm.dials(), [1, 2], "{scheme}");
        farm.release.notify_one();
        assert_eq!(held.await.unwrap(), Ok(0), "{scheme}");
        assert_eq!(waits.await.unwrap(), (Ok(0), 3 * SECOND), "{scheme}");
    }
}

/// The first address has a connection that takes one request, and opens no other.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_opened_is_not_waited_for_while_another_address_has_a_place() {
    let (options, farm) = Farm::new("h2://", &[Does::Few, Does::Serve]);
    let app = proxy(options);
    let held = [(); 2].map(|()| hold(&app));
    sleep(SECOND).await;
    farm.does(0, Does::Hang);
    let begun = Instant::now();
    let asked = [(); 4].map(|()| ask(&app));
    for one in asked {
        assert_eq!(one.await.unwrap(), (Ok(1), Duration::ZERO));
    }
    assert_eq!(posts(&app, 4).await, [Ok(1); 4]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(farm.dials(), [2, 1]);
    farm.release.notify_waiters();
    for (index, one) in held.into_iter().enumerate() {
        assert_eq!(one.await.unwrap(), Ok(index));
    }
}

/// The first address is silent on its only connection, on which another request waits.
#[tokio::test(start_paused = true)]
async fn a_request_for_which_another_address_has_a_place_has_no_connection_cut() {
    let (mut options, farm) = Farm::new("h2://", &[Does::Dead, Does::Serve]);
    options.max_connections = 1;
    options.answer_timeout = 4 * SECOND;
    let app = proxy(options);
    let late = (Err(StatusCode::GATEWAY_TIMEOUT), 4 * SECOND);
    let first = ask(&app);
    sleep(2 * SECOND).await;
    let _held = hold(&app);
    sleep(SECOND / 100).await;
    let second = ask(&app);
    sleep(SECOND / 100).await;
    let _other = hold(&app);
    assert_eq!(first.await.unwrap(), late);
    // The first address has one request now, and the second one has two.
    assert_eq!(ask(&app).await.unwrap(), (Ok(1), Duration::ZERO));
    assert_eq!(second.await.unwrap(), late);
    assert_eq!(farm.dials(), [1, 1]);
}

/// The only connection ends while requests wait for a place and a second one is being opened.
#[tokio::test(start_paused = true)]
async fn a_request_behind_others_that_wait_for_the_first_connection_waits_as_they_do() {
    let (mut options, farm) = Farm::new("h2://", &[Does::Few, Does::Refuse]);
    options.max_connections = 2;
    options.down_after = 1;
    let app = proxy(options);
    posts(&app, 2).await;
    let asked = app.clone();
    let ends = tokio::spawn(async move { post(&asked, "/ends").await });
    sleep(SECOND).await;
    farm.does(0, Does::Late);
    let waits = [hold(&app), hold(&app)];
    sleep(SECOND / 2).await;
    farm.release.notify_one();
    assert_eq!(ends.await.unwrap(), Err(StatusCode::BAD_GATEWAY));
    let last = ask(&app);
    sleep(SECOND / 10).await;
    farm.does(0, Does::Hang);
    sleep(3 * SECOND - SECOND / 10).await;
    for one in waits {
        farm.release.notify_one();
        assert_eq!(one.await.unwrap(), Ok(0));
        sleep(SECOND / 2).await;
    }
    assert_eq!(last.await.unwrap(), (Ok(0), 3 * SECOND + SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_back_is_asked_again_by_a_request_that_waits() {
    for scheme in ["http://", "h2://"] {
        let (mut options, farm) = Farm::new(scheme, &[Does::Few, Does::Fail]);
        options.max_connections = 1;
        let app = proxy(options);
        let held = hold(&app);
        sleep(SECOND).await;
        let waits = ask(&app);
        sleep(SECOND).await;
        farm.does(1, Does::Serve);
        assert_eq!(
            ask(&app).await.unwrap(),
            (Ok(1), Duration::ZERO),
            "{scheme}"
        );
        assert_eq!(waits.await.unwrap(), (Ok(1), CONNECT / 2), "{scheme}");
        farm.release.notify_waiters();
        assert_eq!(held.await.unwrap(), Ok(0), "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_one_of_two_places_that_become_free_at_once() {
    let (mut options, farm) = Farm::new("http://", &[Does::Few; 2]);
    options.max_connections = 1;
    let app = proxy(options);
    let held = [(); 2].map(|()| hold(&app));
    sleep(SECOND).await;
    let waits = hold(&app);
    sleep(SECOND).await;
    (0..2).for_each(|index| farm.does(index, Does::Late));
    held.iter().for_each(|one| one.abort());
    sleep(SECOND / 2).await;
    assert_eq!(farm.dials().iter().sum::<usize>(), 3);
    // The other place is one for the next request, which connects at once.
    let second = ask(&app);
    sleep(SECOND / 10).await;
    assert_eq!(farm.dials(), [2, 2]);
    assert_eq!(second.await.unwrap().1, SECOND);
    farm.release.notify_waiters();
    assert!(waits.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_place_has_no_connection_waits_for_the_others_again() {
    for does in [Does::Fail, Does::Hang] {
        let (mut options, farm) = Farm::new("http://", &[Does::Few; 2]);
        options.max_connections = 1;
        let app = proxy(options);
        let held = [(); 2].map(|()| hold(&app));
        sleep(SECOND).await;
        let waits = ask(&app);
        sleep(SECOND).await;
        farm.does(0, does);
        held[0].abort();
        sleep(3 * SECOND).await;
        farm.release.notify_one();
        assert_eq!(waits.await.unwrap(), (Ok(1), 4 * SECOND), "{does:?}");
        // The connection was one at rest, and the place at the other address is free again.
        assert_eq!(farm.dials()[1], 1, "{does:?}");
        farm.does(0, Does::Few);
        let mut quick = posts(&app, 4).await;
        quick.sort_unstable();
        assert_eq!(quick, [0, 0, 1, 1].map(Ok), "{does:?}");
    }
}

/// The only connection has one place, which another request has for a long time.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_beside_a_full_connection_have_another_one_opened_until_it_opens() {
    let (mut options, farm) = Farm::new("h2://", &[Does::Few]);
    options.max_connections = 4;
    let app = proxy(options);
    let held = hold(&app);
    sleep(SECOND).await;
    farm.does(0, Does::Refuse);
    let waits = [(); 2].map(|()| ask(&app));
    sleep(2 * SECOND).await;
    let dials = farm.dials()[0];
    assert!((3..=8).contains(&dials), "{dials}");
    farm.does(0, Does::Few);
    for one in waits {
        let (outcome, took) = one.await.unwrap();
        assert_eq!(outcome, Ok(0));
        assert!(took < 3 * SECOND, "{took:?}");
    }
    farm.release.notify_waiters();
    assert_eq!(held.await.unwrap(), Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_given_up_for_a_place_elsewhere_is_no_failure() {
    let (mut options, farm) = Farm::new("http://", &[Does::Few, Does::Fail]);
    options.max_connections = 1;
    options.down_after = 2;
    let app = proxy(options);
    let held = hold(&app);
    sleep(SECOND).await;
    let waits = ask(&app);
    sleep(SECOND).await;
    // It was asked once, and is asked again while the request waits. The second failure in a row
    // would take it down.
    assert_eq!(farm.dials(), [1, 1]);
    farm.does(1, Does::Hang);
    sleep(3 * SECOND).await;
    assert_eq!(farm.dials(), [1, 2]);
    farm.release.notify_one();
    assert_eq!(held.await.unwrap(), Ok(0));
    assert_eq!(waits.await.unwrap(), (Ok(0), 4 * SECOND));
    farm.does(1, Does::Serve);
    let mut quick = posts(&app, 4).await;
    quick.sort_unstable();
    assert_eq!(quick, [0, 0, 1, 1].map(Ok));
}
