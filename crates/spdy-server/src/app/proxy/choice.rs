//! What is known of each address of an application, and the choice of one for each request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config::after;

/// The addresses of an application. Each has the index at which it was given.
#[derive(Debug)]
pub(super) struct Choice {
    state: Mutex<State>,
    down_after: u32,
    down_for: Duration,
}

#[derive(Debug)]
struct State {
    addresses: Vec<Standing>,
    /// The address whose turn it is among those with equally few requests.
    next: usize,
    /// The number of trials so far.
    trials: u64,
}

/// What is known of one address.
#[derive(Clone, Debug)]
struct Standing {
    /// The number of requests that have chosen it and are not over.
    requests: usize,
    health: Health,
    /// When a request chose it last.
    chosen: Option<Instant>,
}

/// How connections to an address have ended.
#[derive(Clone, Copy, Debug)]
enum Health {
    /// This number of connects has failed since one has succeeded.
    Up { failures: u32 },
    /// Too many connects have failed. The address is left out until then.
    Down {
        until: Instant,
        /// The request that tries it meanwhile.
        trial: Option<u64>,
    },
}

/// Which addresses a request can still choose.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Those that it has asked.
    pub(super) asked: Vec<usize>,
    /// One to choose only if all others are left out or asked.
    pub(super) avoided: Option<usize>,
    /// Whether that one comes after those left out, too.
    pub(super) is_shunned: bool,
    /// Whether it chooses neither one that is left out nor one that is shunned.
    pub(super) without_last: bool,
    /// How long ago an address that has failed must have been chosen, by any request.
    pub(super) pause: Duration,
}

impl Choice {
    pub(super) fn new(addresses: usize, down_after: u32, down_for: Duration) -> Self {
        let unknown = Standing {
            requests: 0,
            health: Health::Up { failures: 0 },
            chosen: None,
        };
        let state = State {
            addresses: vec![unknown; addresses],
            next: 0,
            trials: 0,
        };
        Self {
            state: Mutex::new(state),
            down_after,
            down_for,
        }
    }

    /// Chooses the address with the fewest requests; each in turn, if several have equally few.
    /// Those that are left out come last, so a request for which there is no other gets one of
    /// them.
    ///
    /// The first choice of an address after the time for which it was left out is its trial: it
    /// leaves the address out for that time again, unless it ends before without an outcome. So one
    /// request tries it, and the others wait for the outcome.
    pub(super) fn choose(self: &Arc<Self>, wanted: &Wanted) -> Option<Turn> {
        let now = Instant::now();
        let mut state = self.lock();
        let index = state.best(wanted, now)?;
        state.next = (index + 1) % state.addresses.len();
        let State {
            addresses, trials, ..
        } = &mut *state;
        let chosen = &mut addresses[index];
        chosen.requests += 1;
        chosen.chosen = Some(now);
        let is_due = chosen.health.is_down() && !chosen.is_left_out(now);
        let trial = is_due.then(|| {
            *trials += 1;
            *trials
        });
        if is_due {
            let until = after(self.down_for);
            chosen.health = Health::Down { until, trial };
        }
        drop(state);
        let choice = Arc::clone(self);
        let trial = trial.map(|number| {
            Arc::new(Trial {
                choice: Arc::clone(self),
                index,
                number,
            })
        });
        Some(Turn {
            choice,
            index,
            trial,
            race: None,
        })
    }

    /// Returns whether connects to an address have failed, and none has succeeded since.
    pub(super) fn is_down(&self, index: usize) -> bool {
        self.lock().addresses[index].health.is_down()
    }

    /// Notes that a connect has failed. Returns whether the address is down from now on.
    pub(super) fn failed(&self, index: usize) -> bool {
        let health = &mut self.lock().addresses[index].health;
        let down = Health::Down {
            until: after(self.down_for),
            trial: None,
        };
        match health {
            Health::Up { failures } => {
                *failures = failures.saturating_add(1);
                let is_down = *failures == self.down_after;
                if is_down {
                    *health = down;
                }
                is_down
            }
            Health::Down { .. } => {
                *health = down;
                false
            }
        }
    }

    /// Notes that a connect or a trial has succeeded. Returns whether the address was down until
    /// now.
    pub(super) fn succeeded(&self, index: usize) -> bool {
        let health = &mut self.lock().addresses[index].health;
        let was_down = health.is_down();
        *health = Health::Up { failures: 0 };
        was_down
    }

    #[cfg(any(test, feature = "metrics"))]
    /// Returns of each address whether it is up, and the number of its requests.
    pub(super) fn view(&self) -> Vec<(bool, usize)> {
        let state = self.lock();
        let view = |one: &Standing| (!one.health.is_down(), one.requests);
        state.addresses.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn best(&self, wanted: &Wanted, now: Instant) -> Option<usize> {
        let count = self.addresses.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        in_turn
            .filter(|index| !wanted.asked.contains(index))
            .filter(|index| self.addresses[*index].can_be_asked(wanted.pause, now))
            .map(|index| {
                let standing = &self.addresses[index];
                let is_avoided = wanted.avoided == Some(index);
                let last = (is_avoided && wanted.is_shunned, standing.is_left_out(now));
                (last, is_avoided, standing.requests, index)
            })
            .filter(|(last, ..)| !wanted.without_last || *last == (false, false))
            .min_by_key(|(last, is_avoided, requests, _)| (*last, *is_avoided, *requests))
            .map(|(.., index)| index)
    }
}

impl Health {
    const fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Returns whether the outcome of this trial is awaited.
    fn awaits(&self, number: u64) -> bool {
        matches!(self, Self::Down { trial, .. } if *trial == Some(number))
    }
}

impl Standing {
    fn can_be_asked(&self, pause: Duration, now: Instant) -> bool {
        let has_failed = !matches!(self.health, Health::Up { failures: 0 });
        !has_failed || self.chosen.is_none_or(|last| last + pause <= now)
    }

    fn is_left_out(&self, now: Instant) -> bool {
        matches!(self.health, Health::Down { until, .. } if now < until)
    }
}

/// A request at the address that it has chosen. It counts there until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn {
    choice: Arc<Choice>,
    index: usize,
    trial: Option<Arc<Trial>>,
    race: Option<Race>,
}

/// Whether a request that connects to an address has found a place at another one meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Race(Arc<AtomicBool>);

impl Race {
    /// Notes that the connect is given up for the other place.
    pub(super) fn lose(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The trial of an address that is down, which all turns of one request at that address share. If
/// it has had no outcome when the last of them ends, it makes way for the next one.
#[derive(Debug)]
struct Trial {
    choice: Arc<Choice>,
    index: usize,
    number: u64,
}

impl Turn {
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// Returns whether this request tries an address that is down, and has no outcome yet.
    pub(super) fn is_trial(&self) -> bool {
        let is_awaited = |trial: &Arc<Trial>| {
            let state = trial.choice.lock();
            state.addresses[trial.index].health.awaits(trial.number)
        };
        self.trial.as_ref().is_some_and(is_awaited)
    }

    /// Notes that the request also waits at other addresses, and connects to this one meanwhile.
    pub(super) fn begin_race(&mut self) -> Race {
        self.race.insert(Race::default()).clone()
    }

    pub(super) fn race(&self) -> Option<Race> {
        self.race.clone()
    }

    /// Counts the request once more at its address, for a second connection.
    pub(super) fn again(&self) -> Self {
        self.choice.lock().addresses[self.index].requests += 1;
        Self {
            choice: Arc::clone(&self.choice),
            index: self.index,
            trial: self.trial.clone(),
            race: None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.choice.lock().addresses[self.index].requests -= 1;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let health = &mut self.choice.lock().addresses[self.index].health;
        if health.awaits(self.number) {
            *health = Health::Down {
                until: Instant::now(),
                trial: None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn choice(addresses: usize) -> Arc<Choice> {
        Arc::new(Choice::new(addresses, 3, 10 * SECOND))
    }

    /// Returns what this number of requests chooses, which are over at once.
    fn quick(choice: &Arc<Choice>, requests: usize) -> Vec<usize> {
        let chosen = |_| choice.choose(&Wanted::default()).unwrap().index();
        (0..requests).map(chosen).collect()
    }

    fn take_down(choice: &Choice, index: usize) {
        assert_eq!([(); 3].map(|()| choice.failed(index)), [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fewest_requests_decide_and_then_the_turn() {
        let choice = choice(3);
        assert_eq!(quick(&choice, 7), [0, 1, 2, 0, 1, 2, 0]);
        let mut held: Vec<_> = (0..5)
            .map(|_| choice.choose(&Wanted::default()).unwrap())
            .collect();
        let requests = |choice: &Choice| choice.view().iter().map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(requests(&choice), [1, 2, 2]);
        held.retain(|turn| turn.index() != 2);
        assert_eq!(requests(&choice), [1, 2, 0]);
        assert_eq!(quick(&choice, 3), [2, 2, 2]);
        drop(held);
        assert_eq!(requests(&choice), [0; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_left_out_after_failures_in_a_row_and_tried_by_one_request() {
        let choice = choice(2);
        for _ in 0..10 {
            assert!(!choice.failed(1) && !choice.failed(1));
            assert!(!choice.succeeded(1), "it was not down");
        }
        take_down(&choice, 1);
        assert_eq!(quick(&choice, 4), [0; 4]);
        assert_eq!(choice.view().iter().filter(|it| it.0).count(), 1);
        advance(10 * SECOND - Duration::from_millis(1)).await;
        assert_eq!(quick(&choice, 4), [0; 4]);
        advance(Duration::from_millis(1)).await;
        for _ in 0..2 {
            let trial = choice.choose(&Wanted::default()).unwrap();
            assert_eq!((trial.index(), trial.is_trial()), (1, true));
            assert_eq!(quick(&choice, 3), [0; 3]);
            assert!(!choice.failed(1), "it was down before");
            drop(trial);
            assert_eq!(quick(&choice, 3), [0; 3]);
            advance(10 * SECOND).await;
        }
        assert!(choice.succeeded(1));
        assert_eq!(quick(&choice, 4), [1, 0, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_without_an_outcome_makes_way_for_the_next_one() {
        let choice = choice(2);
        let one = || choice.choose(&Wanted::default()).unwrap();
        take_down(&choice, 1);
        advance(10 * SECOND).await;
        for _ in 0..3 {
            let turns = [one(), one()];
            assert_eq!(turns.iter().filter(|it| it.is_trial()).count(), 1);
            assert_eq!(quick(&choice, 1), [0]);
        }
        // One that takes too long makes way, too, and then it is too late for it to do so.
        let slow = [one(), one()];
        assert!(slow.iter().any(Turn::is_trial));
        advance(10 * SECOND).await;
        let next = [one(), one()];
        assert!(next.iter().any(Turn::is_trial));
        assert!(!slow.iter().any(Turn::is_trial));
        drop(slow);
        assert_eq!(quick(&choice, 3), [0; 3]);
        choice.failed(1);
        drop(next);
        assert_eq!(quick(&choice, 3), [0; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_left_out_all_are_tried() {
        let choice = choice(3);
        (0..3).for_each(|index| take_down(&choice, index));
        let mut wanted = Wanted::default();
        while let Some(turn) = choice.choose(&wanted) {
            wanted.asked.push(turn.index());
        }
        assert_eq!(wanted.asked, [0, 1, 2]);
        // One is up, and a request for which it is of no use tries the others.
        choice.succeeded(1);
        wanted.asked.clear();
        while let Some(turn) = choice.choose(&wanted) {
            wanted.asked.push(turn.index());
        }
        assert_eq!(wanted.asked, [1, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_to_avoid_comes_after_the_others_and_before_those_left_out() {
        let choice = choice(3);
        let mut wanted = Wanted {
            avoided: Some(0),
            ..Wanted::default()
        };
        take_down(&choice, 1);
        while let Some(turn) = choice.choose(&wanted) {
            wanted.asked.push(turn.index());
        }
        assert_eq!(wanted.asked, [2, 0, 1]);
        wanted.asked.clear();
        wanted.is_shunned = true;
        while let Some(turn) = choice.choose(&wanted) {
            wanted.asked.push(turn.index());
        }
        assert_eq!(wanted.asked, [2, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn neither_an_address_left_out_nor_one_that_is_shunned_is_chosen_before_the_last() {
        let choice = choice(4);
        take_down(&choice, 0);
        for (is_shunned, first, all) in [
            (false, &[2, 3, 1][..], [2, 3, 1, 0]),
            (true, &[2, 3], [2, 3, 0, 1]),
        ] {
            let mut wanted = Wanted {
                avoided: Some(1),
                is_shunned,
                without_last: true,
                ..Wanted::default()
            };
            while let Some(turn) = choice.choose(&wanted) {
                wanted.asked.push(turn.index());
            }
            assert_eq!(wanted.asked, first);
            wanted.without_last = false;
            while let Some(turn) = choice.choose(&wanted) {
                wanted.asked.push(turn.index());
            }
            assert_eq!(wanted.asked, all);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_goes_on_with_the_second_connection_of_its_request() {
        let choice = choice(1);
        take_down(&choice, 0);
        advance(10 * SECOND).await;
        let first = choice.choose(&Wanted::default()).unwrap();
        let second = first.again();
        drop(first);
        assert!(second.is_trial());
        assert!(!choice.choose(&Wanted::default()).unwrap().is_trial());
        drop(second);
        assert!(choice.choose(&Wanted::default()).unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_in_each_pause_asks_an_address_that_fails() {
        let choice = choice(1);
        let again = Wanted {
            pause: SECOND,
            ..Wanted::default()
        };
        assert_eq!(quick(&choice, 1), [0]);
        let ask = || choice.choose(&again).map(|turn| turn.index());
        assert_eq!(ask(), Some(0), "it has not failed");
        choice.failed(0);
        assert_eq!(ask(), None);
        advance(SECOND).await;
        assert_eq!([ask(), ask()], [Some(0), None]);
        // A request that has not asked yet does so at once.
        assert_eq!(quick(&choice, 2), [0, 0]);
        choice.succeeded(0);
        assert_eq!([ask(), ask()], [Some(0), Some(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_limit_of_zero_no_address_is_left_out() {
        let choice = Arc::new(Choice::new(2, 0, SECOND));
        assert!((0..10).all(|_| !choice.failed(0)));
        assert_eq!(quick(&choice, 4), [0, 1, 0, 1]);
    }
}
