//! The pushes of a session, on their way from the handlers to the connection.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    task::{Context, Waker},
};

use spdy_session::Session;

use super::push::PushError;
use crate::{http::ResponseForm, sending::guarded};

/// The state that all requests of a session share for their pushes.
#[derive(Clone)]
pub(super) struct Pushes(Arc<Shared>);

struct Shared {
    session: Session,
    form: ResponseForm,
    queue: Mutex<Queue>,
    /// It is separate, so that a task does not keep itself alive.
    taste: Arc<Taste>,
}

/// The pushes that the connection has not started.
#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// Wakes the connection, which starts them.
    connection: Option<Waker>,
    /// The connection is gone.
    is_closed: bool,
}

/// What is known about whether the client accepts pushes.
#[derive(Debug, Default)]
pub(super) struct Taste {
    /// It has accepted a push.
    pub(super) takes: AtomicBool,
    /// It has refused a push.
    pub(super) refuses: AtomicBool,
}

/// Sends one push. The connection runs it, and drops it with itself.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Pushes {
    pub(super) fn new(session: Session, form: ResponseForm) -> Self {
        Self(Arc::new(Shared {
            session,
            form,
            queue: Mutex::default(),
            taste: Arc::default(),
        }))
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(super) fn form(&self) -> ResponseForm {
        self.0.form
    }

    pub(super) fn taste(&self) -> &Arc<Taste> {
        &self.0.taste
    }

    /// Has the connection start a push. Drops the push if the connection is gone.
    pub(super) fn add(&self, task: Task) -> Result<(), PushError> {
        let mut queue = self.queue();
        if queue.is_closed {
            // The task may belong to the application, and is dropped without the lock.
            drop(queue);
            drop(task);
            return Err(PushError::SessionEnded);
        }
        queue.tasks.push(task);
        let connection = queue.connection.take();
        drop(queue);
        // The connection may have sent the head of the push already, and may rest since then.
        connection.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Returns the pushes that were requested since the last call. The task of `cx` is woken for
    /// the next one.
    pub(super) fn take(&self, cx: &Context<'_>) -> Vec<Task> {
        let mut queue = self.queue();
        let known = queue.connection.as_ref();
        if known.is_some_and(|known| known.will_wake(cx.waker())) {
            return mem::take(&mut queue.tasks);
        }
        drop(queue);
        // Code of the runtime clones and drops wakers, and does so without the lock.
        let waker = cx.waker().clone();
        let mut queue = self.queue();
        let former = queue.connection.replace(waker);
        let tasks = mem::take(&mut queue.tasks);
        drop(queue);
        drop(former);
        tasks
    }

    /// Drops the pushes that were not started, and all later ones.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        let (tasks, connection) = (mem::take(&mut queue.tasks), queue.connection.take());
        drop(queue);
        drop(connection);
        for task in tasks {
            _ = guarded(move || drop(task));
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes")
            .field("taste", &self.0.taste)
            .finish_non_exhaustive()
    }
}
