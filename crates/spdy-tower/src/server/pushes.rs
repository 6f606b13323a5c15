//! The pushes of a session, on their way from the handlers to the connection.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use spdy_session::Session;

use crate::http::ResponseForm;

/// What all requests of a session need for their pushes.
#[derive(Clone)]
pub(super) struct Pushes(Arc<Shared>);

struct Shared {
    session: Session,
    form: ResponseForm,
    /// Pushes that the connection has not begun yet.
    tasks: Mutex<Vec<Task>>,
    /// Apart, so that a task does not keep alive what keeps it alive.
    taste: Arc<Taste>,
}

/// What the client has shown of its liking for pushes.
#[derive(Debug, Default)]
pub(super) struct Taste {
    /// It has let one pass.
    pub(super) takes: AtomicBool,
    /// It has refused one.
    pub(super) refuses: AtomicBool,
}

/// Sends one push. It is run by the connection, and dropped with it.
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

    /// The pushes that were asked for since the last call.
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
