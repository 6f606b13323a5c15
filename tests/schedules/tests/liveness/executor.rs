//! Tasks of one thread, of which the seed says which runs next.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use crate::random::Random;

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Driver,
    /// The path between the drivers.
    Network,
    /// It lives as long as its session.
    Service,
    /// It has an end of its own, however long the session lives.
    Work,
    /// The same, and it may wait for room that other streams have left in the send queue of the
    /// session. It learns of that only when some of its own bytes leave. It always has some, so
    /// it loses nothing by waiting.
    Crowded,
}

impl Kind {
    const fn has_end(self) -> bool {
        matches!(self, Self::Work | Self::Crowded)
    }
}

struct Task {
    name: &'static str,
    kind: Kind,
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    waker: Waker,
}

/// A task's place in the queue.
struct Woken {
    task: usize,
    is_queued: AtomicBool,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    ready: Mutex<Vec<usize>>,
    /// The task of the runtime, which all others are in.
    root: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::Relaxed) {
            return;
        }
        self.queue.ready.lock().unwrap().push(self.task);
        let root = self.queue.root.lock().unwrap().take();
        if let Some(root) = root {
            root.wake();
        }
    }
}

type New = (&'static str, Kind, Pin<Box<dyn Future<Output = ()>>>);

/// Begins tasks.
#[derive(Clone, Default)]
pub(crate) struct Spawner {
    new: Rc<RefCell<Vec<New>>>,
    working: Rc<Cell<usize>>,
    idle: Rc<Notify>,
    /// How often an application has got on.
    steps: Rc<Cell<u64>>,
}

impl Spawner {
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        kind: Kind,
        future: impl Future<Output = ()> + 'static,
    ) {
        if kind.has_end() {
            self.working.set(self.working.get() + 1);
        }
        self.new.borrow_mut().push((name, kind, Box::pin(future)));
    }

    /// Waits until no task has work of its own to do, and none that accepts late begins one.
    pub(crate) async fn idle(&self) {
        loop {
            while self.working.get() > 0 {
                self.idle.notified().await;
            }
            sleep(Duration::from_millis(50)).await;
            if self.working.get() == 0 {
                return;
            }
        }
    }

    /// An application has got on.
    pub(crate) fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }
}

pub(crate) struct Executor {
    spawner: Spawner,
    tasks: Vec<Option<Task>>,
    queue: Arc<Queue>,
    random: Random,
}

impl Executor {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            spawner: Spawner::default(),
            tasks: Vec::new(),
            queue: Arc::default(),
            random,
        }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Runs tasks until none is ready. Ready when all have ended.
    pub(crate) fn poll_run(&mut self, cx: &Context<'_>) -> Poll<()> {
        *self.queue.root.lock().unwrap() = Some(cx.waker().clone());
        // Whatever is done at one moment is bounded: else two tasks wake each other for ever.
        for _ in 0..MOST_POLLS {
            self.admit();
            let Some(task) = self.pick() else {
                let all_over = self.tasks.iter().all(Option::is_none);
                return if all_over {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            };
            self.poll(task);
        }
        panic!("tasks do not come to rest: {:?}", self.names());
    }

    /// Polls each task of an application once more, and panics if one gets on by it.
    pub(crate) fn poll_applications_again(&mut self) {
        for task in 0..self.tasks.len() {
            let Some(Task { kind, name, .. }) = &self.tasks[task] else {
                continue;
            };
            let (kind, name, steps) = (*kind, *name, self.spawner.steps.get());
            if matches!(kind, Kind::Driver | Kind::Network | Kind::Crowded) {
                continue;
            }
            self.poll(task);
            let is_over = self.tasks[task].is_none();
            let got_on = is_over || self.spawner.steps.get() > steps || self.is_any_ready();
            assert!(!got_on, "the task {name} could go on and was not woken");
        }
    }

    /// Polls the drivers once more, and panics if an application is woken by it. A driver may grant
    /// what was too little to be woken for; then the other one is not at rest any more.
    pub(crate) fn poll_drivers_again(&mut self) {
        for task in 0..self.tasks.len() {
            let is_driver = |task: &Task| task.kind == Kind::Driver;
            let is_woken = self.queue.ready.lock().unwrap().contains(&task);
            if is_woken || !self.tasks[task].as_ref().is_some_and(is_driver) {
                continue;
            }
            self.poll(task);
            // The lock must not be poisoned: tasks that are dropped need it.
            let woken = self.queue.ready.lock().unwrap().clone();
            for task in woken
                .into_iter()
                .filter_map(|task| self.tasks[task].as_ref())
            {
                let is_told = matches!(task.kind, Kind::Driver | Kind::Network);
                assert!(
                    is_told,
                    "the driver had something for the task {}",
                    task.name
                );
            }
        }
    }

    /// The tasks that have not ended.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.tasks.iter().flatten().map(|task| task.name).collect()
    }

    fn is_any_ready(&self) -> bool {
        !self.queue.ready.lock().unwrap().is_empty()
    }

    fn admit(&mut self) {
        for (name, kind, future) in self.spawner.new.take() {
            let task = self.tasks.len();
            let woken = Arc::new(Woken {
                task,
                is_queued: AtomicBool::new(true),
                queue: Arc::clone(&self.queue),
            });
            let waker = Waker::from(Arc::clone(&woken));
            self.tasks.push(Some(Task {
                name,
                kind,
                future,
                woken,
                waker,
            }));
            self.queue.ready.lock().unwrap().push(task);
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let mut ready = self.queue.ready.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let at = self.random.below(ready.len());
        Some(ready.swap_remove(at))
    }

    fn poll(&mut self, number: usize) {
        let Some(task) = &mut self.tasks[number] else {
            return;
        };
        task.woken.is_queued.store(false, Ordering::Relaxed);
        let mut cx = Context::from_waker(&task.waker);
        if task.future.as_mut().poll(&mut cx).is_ready() {
            if task.kind.has_end() {
                let Spawner { working, idle, .. } = &self.spawner;
                working.set(working.get() - 1);
                if working.get() == 0 {
                    idle.notify_one();
                }
            }
            self.tasks[number] = None;
        }
    }
}

/// Polls at one moment of time.
const MOST_POLLS: usize = 1_000_000;
