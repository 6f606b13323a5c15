//! A directory of files. tower-http implements the HTTP side: ranges, conditions, redirects and
//! names. This module provides the files: it checks them once a second, and keeps small ones in
//! memory.
//!
//! ```text
//! request ──► ServeDir ──► Visit ──► Cache ──► disk
//!                │                    │
//!               head  ──────────►  Contents  ──► response
//! ```

mod cache;
mod conditions;
mod contents;
mod entry;
mod pieces;
mod visit;

use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        Method, StatusCode, Version,
        header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, LOCATION},
        response::{Parts, Response},
    },
    response::IntoResponse,
};
use spdy_tower::StreamInfo;
use tower_http::services::ServeDir;
use tower_service::Service;

use self::{
    cache::Cache,
    conditions::{Resumption, Span, leads_below, with_slash},
    contents::{Contents, PieceRoom},
    pieces::Spares,
    visit::Visit,
};

/// The configuration of a directory, with the limits of its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directory {
    /// The path of the directory.
    pub path: PathBuf,
    /// The maximum number of files and directories in the cache. The least recently used ones are
    /// removed. With 0 the disk is read for each request, and the other limits have no effect.
    pub max_entries: usize,
    /// The maximum number of bytes of files in memory.
    pub max_bytes: usize,
    /// The maximum length of a file that is kept in memory. Such a file is read at once. Longer
    /// files are read in pieces of up to 128 KiB, or shorter ones if the client does not read that
    /// much. Two buffers of that length are kept for all responses.
    pub max_small: usize,
    /// The maximum number of longer files that are kept open. A deleted file uses disk space until
    /// it is closed. That happens at the next request after a minute without a request for the
    /// file.
    pub max_open: usize,
    /// How long the cached state of the disk is used. The server notices a change after this time
    /// at the latest.
    pub trust: Duration,
}

impl Directory {
    /// Returns a directory with the default limits: 1,024 entries, 16 MiB in files of up to 64 KiB,
    /// 64 open files, and a second.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_entries: 1024,
            max_bytes: 16 << 20,
            max_small: 64 << 10,
            max_open: 64,
            trust: Duration::from_secs(1),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Directory {
    fn from(path: &P) -> Self {
        Self::new(path.as_ref())
    }
}

/// Serves the files below a directory. Paths are used as they are on disk: hidden files are served,
/// symbolic links are followed, and a request for a directory returns its `index.html`. A path that
/// is neither a file nor a directory is not found.
///
/// A response never mixes two states of a file. If the file is modified while it is sent, the
/// response ends with an error, which is a reset in SPDY. If it is replaced (`rename`), the old
/// file is sent.
///
/// # Errors
/// Returns an error if the path is not a directory or cannot be read.
pub fn directory(directory: impl Into<Directory>) -> Result<Router, DirectoryError> {
    let directory = directory.into();
    // Opening the directory reports at start an error that would otherwise be a 404 for each
    // request.
    if let Err(source) = fs::read_dir(&directory.path) {
        let path = directory.path;
        return Err(DirectoryError { path, source });
    }
    let site = Site {
        path: directory.path.clone(),
        cache: Arc::new(Cache::new(directory)),
        spares: Arc::default(),
    };
    Ok(Router::new().fallback(serve).with_state(Arc::new(site)))
}

#[derive(Debug)]
struct Site {
    path: PathBuf,
    cache: Arc<Cache>,
    spares: Arc<Spares>,
}

async fn serve(State(site): State<Arc<Site>>, mut request: Request) -> Response<Body> {
    if let Some(span) = Span::of(request.headers()) {
        span.put(request.headers_mut());
    }
    let Some(resumption) = Resumption::take(&mut request) else {
        return site.respond(request).await;
    };
    let (head, body) = request.into_parts();
    let whole = Request::from_parts(head.clone(), Body::empty());
    let whole = site.respond(whole).await;
    if !resumption.is_possible(whole.headers()) {
        return whole;
    }
    let mut request = Request::from_parts(head, body);
    resumption.put_back(&mut request);
    site.respond(request).await
}

impl Site {
    async fn respond(&self, request: Request) -> Response<Body> {
        let Some(Span::Suffix(_)) = Span::of(request.headers()) else {
            return self.answer(request).await;
        };
        let (mut head, body) = request.into_parts();
        let response = self
            .answer(Request::from_parts(head.clone(), Body::empty()))
            .await;
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            return response;
        }
        // The range is longer than the file.
        Span::Bytes(0, None).put(&mut head.headers);
        self.answer(Request::from_parts(head, body)).await
    }

    async fn answer(&self, request: Request) -> Response<Body> {
        let is_get = request.method() == Method::GET;
        let uri = request.uri().clone();
        let room = room(&request);
        let visit = Visit::new(Arc::clone(&self.cache));
        // `ServeDir` never reads its own bodies, so they need no buffer. It does not support
        // several ranges, for which the whole file is also a valid response.
        let mut files = ServeDir::with_backend(&self.path, visit.clone())
            .with_buf_chunk_size(0)
            .ignore_multi_range_requests(true);
        let response = match Service::<Request>::call(&mut files, request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (mut head, body) = response.into_parts();
        let is_redirect = head.headers.contains_key(LOCATION);
        if !is_redirect && !uri.path().ends_with('/') && leads_below(uri.path()) {
            return StatusCode::NOT_FOUND.into_response();
        }
        if let Some(location) = head.headers.get_mut(LOCATION)
            && let Some(relative) = with_slash(&uri)
        {
            *location = relative;
        }
        if is_part_of_nothing(&head) {
            head.status = StatusCode::OK;
            head.headers.remove(CONTENT_RANGE);
        }
        match visit.seen() {
            Some((entry, start)) if is_get && has_file(&head) => {
                let contents =
                    Contents::new(entry, start, length(&head), room, Arc::clone(&self.spares));
                Response::from_parts(head, Body::new(contents))
            }
            _ => Response::from_parts(head, Body::new(body)),
        }
    }
}

/// Returns how much of a file can be read at once.
fn room(request: &Request) -> PieceRoom {
    match request.extensions().get::<StreamInfo>() {
        Some(stream) => PieceRoom::Stream(stream.room()),
        None if request.version() == Version::HTTP_2 => PieceRoom::Shared,
        None => PieceRoom::Alone,
    }
}

/// Returns whether a response claims to be a part of an empty file.
fn is_part_of_nothing(head: &Parts) -> bool {
    let length = head.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    head.status == StatusCode::PARTIAL_CONTENT && length == Some(b"0")
}

/// Returns whether the body of a response to GET is a file or a part of one.
fn has_file(head: &Parts) -> bool {
    matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
}

fn length(head: &Parts) -> u64 {
    let length = head.headers.get(CONTENT_LENGTH);
    length
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .expect("ServeDir declares the length of each file or part")
}

/// The error for a directory that cannot be served.
#[derive(Debug)]
pub struct DirectoryError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve the directory {}", self.path.display())
    }
}

impl Error for DirectoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
