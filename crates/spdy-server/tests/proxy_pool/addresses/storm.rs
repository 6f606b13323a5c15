//! Requests that come and go while the addresses do all that they can.

use tokio::task::JoinHandle;

use super::*;

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // The generator of Knuth's MMIX.
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

const ALL: [Does; 14] = [
    Does::Few,
    Does::Few,
    Does::Few,
    Does::Serve,
    Does::Late,
    Does::Refuse,
    Does::Fail,
    Does::Short,
    Does::Hang,
    Does::Mute,
    Does::Silent,
    Does::Dead,
    Does::Close,
    Does::GoAway,
];

/// The time limit for responses.
const SILENCE: Duration = Duration::from_secs(9);

#[tokio::test(start_paused = true)]
async fn requests_that_come_and_go_end_in_time_and_leave_every_place() {
    for seed in 0..8 {
        for scheme in ["http://", "h2://"] {
            storm(scheme, seed).await;
        }
    }
}

async fn storm(scheme: &'static str, seed: u64) {
    let mut dice = Dice(seed);
    let count = 1 + dice.roll(3);
    let (mut options, farm) = Farm::new(scheme, &vec![Does::Few; count]);
    options.max_connections = 2;
    options.answer_timeout = SILENCE;
    options.retry_refused = dice.pick(&[Duration::ZERO, 3 * SECOND]);
    let app = proxy(options);
    let mut running: Vec<JoinHandle<()>> = Vec::new();
    for _ in 0..150 {
        if dice.roll(4) == 0 {
            farm.does(dice.roll(count), dice.pick(&ALL));
        }
        match dice.roll(16) {
            0 | 1 => farm.release.notify_one(),
            2 => farm.release.notify_waiters(),
            3..6 if !running.is_empty() => running.swap_remove(dice.roll(running.len())).abort(),
            _ => {}
        }
        let path = dice.pick(&["/", "/", "/", "/held", "/ends"]);
        running.push(tokio::spawn(ends_in_time(
            app.clone(),
            path,
            dice.roll(2) == 0,
        )));
        sleep(SECOND / 1000 * dice.roll(400) as u32).await;
    }
    for one in running {
        let ended = one.await;
        assert!(
            !ended.is_err_and(|error| error.is_panic()),
            "{scheme} {seed}"
        );
    }
    (0..count).for_each(|index| farm.does(index, Does::Few));
    everything_is_there(&app, &farm, 2 * count).await;
}

async fn ends_in_time(app: Router, path: &'static str, is_repeatable: bool) {
    let request = match is_repeatable {
        true => Request::get(path).body(Body::empty()),
        false => Request::post(path).body(Body::from("x")),
    };
    let answering = async {
        let response = app.oneshot(request.unwrap()).await.unwrap();
        _ = response.into_body().collect().await;
    };
    let ended = timeout(CONNECT + SILENCE + SECOND, answering).await;
    ended.expect("it takes longer than all limits together");
}

/// Each address that is left out comes back, and each place is one for a request.
async fn everything_is_there(app: &Router, farm: &Farm, places: usize) {
    sleep(100 * SECOND).await;
    for one in posts(app, 2 * places).await {
        one.expect("all addresses are up");
    }
    // No connection is open any more, and no release is left over.
    sleep(100 * SECOND).await;
    _ = timeout(Duration::ZERO, farm.release.notified()).await;
    let held: Vec<_> = (0..places).map(|_| hold(app)).collect();
    sleep(SECOND).await;
    let late = (Err(StatusCode::SERVICE_UNAVAILABLE), CONNECT);
    assert_eq!(full::ask(app).await.unwrap(), late);
    farm.release.notify_waiters();
    let mut of_each = vec![0; places / 2];
    for one in held {
        of_each[one.await.unwrap().unwrap()] += 1;
    }
    assert_eq!(of_each, vec![2; places / 2]);
}
