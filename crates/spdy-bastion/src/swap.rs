//! A value that is replaced while it is used.

use std::sync::{Arc, PoisonError, RwLock};

/// A value that was loaded from a file. Users of the old value keep it.
#[derive(Debug)]
pub(crate) struct Swap<T>(RwLock<Arc<T>>);

impl<T> Swap<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, value: impl Into<Arc<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value.into();
    }
}

impl<T> From<Arc<T>> for Swap<T> {
    fn from(value: Arc<T>) -> Self {
        Self(RwLock::new(value))
    }
}
