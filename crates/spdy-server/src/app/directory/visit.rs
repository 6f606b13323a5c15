//! The view of one request on the directory.

use std::{
    future::{Future, Ready, ready},
    io::{self, SeekFrom},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

use super::{
    cache::Cache,
    entry::{Entry, Facts},
};

/// The files for `ServeDir`. It records the file that was looked at last, which is the one of the
/// response.
///
/// The response takes the contents from here, so `ServeDir` does not read and copy the file.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    cache: Arc<Cache>,
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    entry: Arc<Entry>,
    /// The position where reading begins.
    start: u64,
}

impl Visit {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            seen: Arc::default(),
        }
    }

    /// Returns what was looked at last, and the position where reading begins.
    pub(super) fn seen(&self) -> Option<(Arc<Entry>, u64)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref()
            .map(|seen| (Arc::clone(&seen.entry), seen.start))
    }

    async fn look(self, path: PathBuf) -> io::Result<Facts> {
        if let Some(facts) = self.look_back(&path) {
            return Ok(facts);
        }
        let entry = self.cache.entry(&path).await?;
        let facts = entry.facts.clone();
        let seen = Seen {
            path,
            entry,
            start: 0,
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(facts)
    }

    /// `ServeDir` first asks whether the path is a directory, and then for its contents. One check
    /// answers both.
    fn look_back(&self, path: &PathBuf) -> Option<Facts> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.as_ref().filter(|seen| seen.path == *path)?;
        Some(seen.entry.facts.clone())
    }
}

impl Backend for Visit {
    type File = Opened;
    type Metadata = Facts;
    type OpenFuture = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>;
    type MetadataFuture = Pin<Box<dyn Future<Output = io::Result<Facts>> + Send>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let visit = self.clone();
        Box::pin(async move {
            let facts = visit.clone().look(path).await?;
            if facts.is_dir() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Opened { visit, facts })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        Box::pin(self.clone().look(path))
    }
}

/// A file that was opened in a visit. It is never read: it only records the position where reading
/// would begin.
#[derive(Debug)]
pub(super) struct Opened {
    visit: Visit,
    facts: Facts,
}

impl File for Opened {
    type Metadata = Facts;
    type MetadataFuture<'a> = Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.facts.clone()))
    }
}

impl AsyncSeek for Opened {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let SeekFrom::Start(start) = position else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut seen = self
            .visit
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.as_mut() {
            seen.start = start;
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(0))
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
