//! The view of one request on the directory.

use std::{
    future::{Future, Ready, ready},
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File};

use super::{
    cache::Cache,
    disk::{Found, Question},
    entry::Entry,
    facts::Facts,
    root::Below,
};

/// The files for `ServeDir`. It records the file that was looked at last, which is the one of the
/// response.
///
/// The response takes the contents from here, so `ServeDir` does not read and copy the file.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    cache: Arc<Cache>,
    views: Arc<Mutex<Views>>,
}

/// What was looked at.
#[derive(Debug, Default)]
struct Views {
    /// The path of the contents, which may be in a compressed file beside it.
    plain: Option<PathBuf>,
    /// What was found last.
    seen: Option<Seen>,
    /// What was not found last.
    missed: Option<Missed>,
}

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    found: Found,
    /// The position where reading begins.
    start: u64,
}

#[derive(Debug)]
struct Missed {
    path: PathBuf,
    why: io::ErrorKind,
}

impl Visit {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            views: Arc::default(),
        }
    }

    /// Returns what was looked at last, and the position where reading begins.
    pub(super) fn seen(&self) -> Option<(Arc<Entry>, u64)> {
        let views = self.views();
        let seen = views.seen.as_ref()?;
        Some((Arc::clone(&seen.found.entry), seen.start))
    }

    /// Returns the directory that the request names, if its index is missing.
    pub(super) fn without_index(&self) -> Option<Below> {
        let views = self.views();
        let (plain, missed) = (views.plain.as_ref()?, views.missed.as_ref()?);
        let seen = views.seen.as_ref()?;
        let is_missing = missed.path == *plain && missed.why == io::ErrorKind::NotFound;
        let is_of_directory = plain.parent() == Some(&*seen.path);
        let directory = (is_missing && is_of_directory).then(|| seen.path.clone())?;
        drop(views);
        self.cache.below(directory).ok()
    }

    /// Returns whether the disk has not answered in time.
    pub(super) fn is_late(&self) -> bool {
        let views = self.views();
        let missed = views.missed.as_ref();
        missed.is_some_and(|missed| missed.why == io::ErrorKind::TimedOut)
    }

    /// Looks at what `ServeDir` asks for: the path of the request, and then its contents, which are
    /// those of the path itself, of its index, or of a compressed file beside one of them.
    async fn look(self, path: PathBuf) -> io::Result<Facts> {
        let plain = self.views().plain.clone();
        match plain {
            Some(plain) if plain != path => Box::pin(self.look_beside(plain, path)).await,
            Some(_) => self.look_at(path).await,
            None => {
                let facts = self.look_at(path.clone()).await;
                let is_dir = facts.as_ref().is_ok_and(Facts::is_dir);
                let plain = if is_dir { path.join(INDEX) } else { path };
                self.views().plain = Some(plain);
                facts
            }
        }
    }

    /// Looks at a compressed file. The plain one must exist, and knows which ones are beside it.
    async fn look_beside(&self, plain: PathBuf, path: PathBuf) -> io::Result<Facts> {
        let beside = path.to_str().unwrap_or_default();
        self.look_at(plain).await?;
        let has_it = |seen: &Seen| seen.found.sidecars.has(beside);
        let is_there = self.views().seen.as_ref().is_some_and(has_it);
        if !is_there {
            return Err(io::ErrorKind::NotFound.into());
        }
        // While the request waits for one open file, it holds no other.
        self.views().seen = None;
        self.look_at(path).await
    }

    async fn look_at(&self, path: PathBuf) -> io::Result<Facts> {
        if let Some(facts) = self.look_back(&path) {
            return facts;
        }
        let below = self.cache.below(path.clone());
        let found = match below {
            Ok(below) => self.cache.ask(Question::At(below)).await,
            Err(error) => Err(error),
        };
        let mut views = self.views();
        // A directory has no contents: what is looked at after the path is a file.
        let is_of_use = |found: &Found| views.plain.is_none() || !found.entry.facts.is_dir();
        let found = match found {
            Ok(found) if !is_of_use(&found) => Err(io::ErrorKind::NotFound.into()),
            found => found,
        };
        match found {
            Ok(found) => {
                let facts = found.entry.facts.clone();
                let start = 0;
                views.seen = Some(Seen { path, found, start });
                Ok(facts)
            }
            Err(error) => {
                let why = error.kind();
                views.missed = Some(Missed { path, why });
                Err(error)
            }
        }
    }

    /// `ServeDir` first asks whether the path is a directory, and then for its contents. One check
    /// answers both.
    fn look_back(&self, path: &Path) -> Option<io::Result<Facts>> {
        let views = self.views();
        let seen = views.seen.as_ref().filter(|seen| seen.path == path);
        let missed = views.missed.as_ref().filter(|missed| missed.path == path);
        match (seen, missed) {
            (Some(seen), _) => Some(Ok(seen.found.entry.facts.clone())),
            (None, Some(missed)) => Some(Err(missed.why.into())),
            (None, None) => None,
        }
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The contents of a directory, as `ServeDir` names them.
const INDEX: &str = "index.html";

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
        if let Some(seen) = &mut self.visit.views().seen {
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
