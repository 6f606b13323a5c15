//! One schedule: two sides, a path between them, and what is asserted whenever nothing is ready.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use spdy_frame::{Version, WindowTarget};
use spdy_session::{
    Driver, FlowControl, Session, Shutdown,
    proto::{Connection, Phase, Stats},
};
use tokio::time::sleep;

use crate::{
    applications::Side,
    configs,
    executor::{Executor, Kind, Spawner},
    holder::{Ended, Holder, SharedHolder},
    pipe::{Lane, Pipe, SharedLane},
    random::Random,
};

type SharedDriver = Rc<RefCell<Seat>>;

/// The driver, where the oracle sees it, until it has ended or is gone.
struct Seat {
    driver: Option<Driver<Pipe>>,
    /// The task that polls it.
    task: Option<Waker>,
    ended: Option<Ended>,
}

/// One side as the schedule sees it.
struct End {
    session: Option<Session>,
    driver: SharedDriver,
    input: SharedLane,
    output: SharedLane,
    holder: SharedHolder,
    /// The timeout of a write.
    write: Duration,
}

impl End {
    /// Ends the session, if that was not done.
    fn shut_down(&self, random: &mut Random) {
        let Some(session) = &self.session else { return };
        if self.driver.borrow().driver.is_some() {
            self.holder.borrow_mut().ordered();
        }
        session.shutdown(match random.below(3) {
            0 => Shutdown::Now,
            _ => Shutdown::Graceful { deadline: None },
        });
    }

    fn describe(&self) -> String {
        let seat = self.driver.borrow();
        let Some(driver) = &seat.driver else {
            return "it has ended".into();
        };
        let it = driver.connection();
        format!(
            "{driver:?}, {:?}, {:?}, writes: {}, reads: {}, {:?}",
            it.phase(),
            it.outcome(),
            it.has_output(),
            it.wants_input(),
            it.stats()
        )
    }
}

/// How a schedule may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Everything ends by itself, then the books are looked at.
    Orderly,
    /// A session is shut down in the middle.
    ShutDown,
    /// A transport breaks, or a side goes.
    BreaksOff,
}

pub(crate) fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(tokio::task::unconstrained(async {
        Schedule::new(seed).run().await;
    }));
}

struct Schedule {
    random: Random,
    executor: Executor,
    ends: Rc<[RefCell<End>; 2]>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Some streams have enough to send that the window of the session counts.
        let is_heavy = random.one_in(16);
        let (version, flow_control) = match random.below(5) {
            _ if is_heavy => (Version::V3_1, FlowControl::Enforce),
            0 => (random.of(&Version::ALL), FlowControl::Off),
            _ => (random.of(&Version::ALL), FlowControl::Enforce),
        };
        let plan = random.of(&[
            Plan::Orderly,
            Plan::Orderly,
            Plan::ShutDown,
            Plan::BreaksOff,
        ]);
        let executor = Executor::new(random.fork());
        let spawner = executor.spawner();
        let lanes = [(); 2].map(|()| Lane::new(&mut random, is_heavy));
        let configs = [(); 2].map(|()| configs::config(&mut random, flow_control, is_heavy));
        // What passes few bytes at a time is given few.
        let body = configs.iter().map(configs::body).min().unwrap_or(0);
        let body = body.min(400 * lanes[0].borrow().chunk().min(lanes[1].borrow().chunk()));
        let make = [spdy_session::client, spdy_session::server];
        let ends = [0, 1].map(|side| {
            let input = Rc::clone(&lanes[side]);
            let output = Rc::clone(&lanes[1 - side]);
            let holder = Holder::new(random.of(&[0, 0, 1000, 80 * 1024]));
            let pipe = Pipe {
                input: Rc::clone(&input),
                output: Rc::clone(&output),
                holder: Rc::clone(&holder),
            };
            let config = configs[side].clone();
            let writer = match configs::may_crowd(&config) {
                true => Kind::Crowded,
                false => Kind::Work,
            };
            let write = config.timeouts.write.expect("it has one");
            let (session, incoming, driver) = make[side](pipe, version, config);
            let driver = Rc::new(RefCell::new(Seat {
                driver: Some(driver),
                task: None,
                ended: None,
            }));
            spawner.spawn("driver", Kind::Driver, drive(Rc::clone(&driver)));
            let mut application = Side {
                session: session.clone(),
                holder: Rc::clone(&holder),
                spawner: spawner.clone(),
                random: random.fork(),
                body,
                is_heavy,
                writer,
            };
            application.request(match side {
                0 => 1 + random.below(5),
                _ => random.below(2),
            });
            if plan == Plan::ShutDown && random.one_in(2) {
                let meddler = application.fork();
                spawner.spawn("meddler", Kind::Work, meddler.meddle());
            }
            spawner.spawn("acceptor", Kind::Service, application.serve(incoming));
            let session = Some(session);
            RefCell::new(End {
                session,
                driver,
                input,
                output,
                holder,
                write,
            })
        });
        let schedule = Self {
            random,
            executor,
            ends: Rc::new(ends),
        };
        schedule.begin(plan, lanes)
    }

    fn begin(mut self, plan: Plan, lanes: [SharedLane; 2]) -> Self {
        let spawner = self.executor.spawner();
        for lane in &lanes {
            let path = stall(Rc::clone(lane), self.random.fork());
            spawner.spawn("path", Kind::Network, path);
        }
        let ends = Rc::clone(&self.ends);
        let random = self.random.fork();
        let control = control(ends, spawner.clone(), random, plan);
        spawner.spawn("control", Kind::Service, control);
        self
    }

    async fn run(mut self) {
        let mut hang = pin!(sleep(LONGEST));
        poll_fn(|cx| {
            if self.executor.poll_run(cx).is_ready() {
                return Poll::Ready(());
            }
            if hang.as_mut().poll(cx).is_ready() {
                let ends = self.ends.each_ref().map(|end| end.borrow().describe());
                panic!(
                    "tasks wait for ever: {:?}\n{ends:#?}",
                    self.executor.names()
                );
            }
            self.check_rest();
            self.executor.poll_applications_again();
            if self.random.one_in(4) {
                self.executor.poll_drivers_again();
            }
            self.executor.poll_run(cx)
        })
        .await;
        for end in &*self.ends {
            let end = end.borrow();
            if let Some(ended) = &end.driver.borrow().ended {
                end.holder.borrow().check(ended, end.write);
            }
        }
    }

    /// No task is ready: nothing may be possible.
    fn check_rest(&self) {
        for (end, name) in self.ends.iter().zip(["client", "server"]) {
            let end = end.borrow();
            let seat = end.driver.borrow();
            let Some(driver) = &seat.driver else {
                continue;
            };
            if let Err(undone) = driver.check_rest() {
                panic!("{name}: {undone}");
            }
            let connection = driver.connection();
            let is_read = !connection.wants_input() || !end.input.borrow().has_something();
            assert!(
                is_read,
                "{name}: the transport has something, and it is not read"
            );
            let is_written = !connection.has_output() || !end.output.borrow().has_room();
            assert!(
                is_written,
                "{name}: the transport has room, and nothing is written"
            );
            let is_flushed = end.holder.borrow().is_empty() || !end.output.borrow().takes();
            assert!(
                is_flushed || connection.outcome().is_err(),
                "{name}: the transport holds bytes, and has room for them"
            );
        }
    }
}

/// Drives a session to its end.
async fn drive(seat: SharedDriver) {
    poll_fn(|cx| {
        let seat = &mut *seat.borrow_mut();
        seat.task = Some(cx.waker().clone());
        match &mut seat.driver {
            Some(driver) => Pin::new(driver)
                .poll(cx)
                .map(|outcome| seat.ended = Some(Ended::now(outcome))),
            None => Poll::Ready(()),
        }
    })
    .await;
    let ended = seat.borrow_mut().driver.take();
    if let Some(ended) = ended {
        ended.check_empty().unwrap();
    }
}

/// Holds everything up on one direction, now and then, for a while.
async fn stall(lane: SharedLane, mut random: Random) {
    for _ in 0..random.below(6) {
        sleep(random.time(40)).await;
        lane.borrow_mut().stall(true);
        sleep(random.time(60)).await;
        lane.borrow_mut().stall(false);
    }
}

/// Ends the schedule.
async fn control(ends: Rc<[RefCell<End>; 2]>, spawner: Spawner, mut random: Random, plan: Plan) {
    if plan == Plan::BreaksOff {
        sleep(random.time(150)).await;
        let end = &ends[random.below(2)];
        if random.one_in(2) {
            // What is left of the session is lost.
            end.borrow().shut_down(&mut random);
            sleep(random.time(30)).await;
        }
        break_off(end, &mut random);
    }
    if plan == Plan::ShutDown && random.one_in(2) {
        sleep(random.time(100)).await;
        shut_down_in_stall(&ends[random.below(2)], &mut random).await;
    }
    spawner.idle().await;
    if plan == Plan::Orderly {
        check_books(&ends, &spawner).await;
    }
    let first = random.below(2);
    for side in [first, 1 - first] {
        ends[side].borrow().shut_down(&mut random);
        let session = ends[side].borrow_mut().session.take();
        let Some(session) = session else { continue };
        if random.one_in(2) {
            _ = session.closed().await;
        }
    }
}

/// Ends a session while nothing moves to its peer, so that its transport holds what it takes.
async fn shut_down_in_stall(end: &RefCell<End>, random: &mut Random) {
    let lane = Rc::clone(&end.borrow().output);
    lane.borrow_mut().stall(true);
    sleep(random.time(20)).await;
    end.borrow().shut_down(random);
    sleep(random.time(100)).await;
    lane.borrow_mut().stall(false);
}

fn break_off(end: &RefCell<End>, random: &mut Random) {
    let end = end.borrow();
    match random.below(4) {
        // The process is gone.
        0 => {
            let seat = &mut *end.driver.borrow_mut();
            seat.driver = None;
            seat.task.take().into_iter().for_each(Waker::wake);
        }
        // The peer finishes its writing side, and nothing else.
        1 => end.input.borrow_mut().end(),
        2 => end.input.borrow_mut().tear(),
        _ => {
            end.input.borrow_mut().tear();
            end.output.borrow_mut().tear();
        }
    }
}

/// All applications are done: nothing is left of what they did, if both sessions go on.
async fn check_books(ends: &[RefCell<End>; 2], spawner: &Spawner) {
    // Everything that was under way has arrived by then, and the drivers have learned of everything
    // that could wait.
    for _ in 0..2 {
        for end in ends {
            let session = end.borrow().session.clone();
            let Some(session) = session else { return };
            if session.ping().await.is_err() {
                return;
            }
        }
        spawner.idle().await;
    }
    sleep(Duration::from_millis(1)).await;
    let [near, far] = ends.each_ref().map(RefCell::borrow);
    let (near_seat, far_seat) = (near.driver.borrow(), far.driver.borrow());
    let (Some(near_driver), Some(far_driver)) = (&near_seat.driver, &far_seat.driver) else {
        return;
    };
    let [near_side, far_side] = [near_driver, far_driver].map(Driver::connection);
    if [near_side, far_side]
        .iter()
        .any(|it| it.phase() != Phase::Open)
    {
        return;
    }
    for driver in [near_driver, far_driver] {
        driver.check_empty().unwrap();
        assert_eq!(driver.connection().stats(), Stats::default());
    }
    if near.input.borrow().is_empty() && near.output.borrow().is_empty() {
        compare_windows(near_side, far_side);
        compare_windows(far_side, near_side);
    }
}

/// What one side may send, the other expects.
fn compare_windows(sender: &Connection, receiver: &Connection) {
    let windows = |side: &Connection| side.windows(WindowTarget::Session).expect("it has one");
    let (sent, received) = (windows(sender), windows(receiver));
    let is_counted =
        sender.version() == Version::V3_1 && sender.config().flow_control == FlowControl::Enforce;
    if is_counted && !sender.has_output() && !receiver.has_output() {
        assert_eq!(sent.send, received.receive, "credit is lost or invented");
    }
}

/// Nothing takes longer, whatever the timeouts.
const LONGEST: Duration = Duration::from_secs(600);
