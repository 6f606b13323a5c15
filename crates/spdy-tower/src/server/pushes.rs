//! The pushes of a session, on their way from the handlers to the connection.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use spdy_session::Session;

use crate::http::ResponseForm;

/// The state that all requests of a session share for their pushes.
#[derive(Clone)]
pub(super) struct Pushes(Arc<Shared>);

struct Shared {
    session: Session,
    form: ResponseForm,
    /// Pushes that the connection has not started.
    tasks: Mutex<Vec<Task>>,
    /// It is separate, so that a task does not keep itself alive.
    taste: Arc<Taste>,
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
            tasks: Mutex::default(),
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

    pub(super) fn add(&self, task: Task) {
        self.tasks().push(task);
    }

    /// Returns the pushes that were requested since the last call.
    pub(super) fn take(&self) -> Vec<Task> {
        mem::take(&mut self.tasks())
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes")
            .field("taste", &self.0.taste)
            .finish_non_exhaustive()
    }
}
