//! A directory of files. What HTTP asks of it (ranges, conditions, redirects, names) is tower-http's; here is what it
//! reads from: files that are looked at once a second, and of which the small ones stay in memory.
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
    visit::Visit,
};

/// A directory to serve, and how much of it may be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// How many files and directories are remembered; those that were not asked for longest give way. With 0 the disk
    /// is looked at for each request, and nothing else here matters.
    pub max_entries: usize,
    /// How many octets of files are kept in memory, in all.
    pub max_octets: usize,
    /// The longest file that is kept in memory. Every such file is read at once; longer ones in pieces of up to
    /// 256 KiB, shorter where the client does not take so much.
    pub max_small: usize,
    /// How many longer files are kept open. One that was deleted takes its room on the disk until it is closed: when
    /// it was not asked for within a minute, and somebody asks for something else.
    pub max_open: usize,
    /// How long what was seen on the disk is believed. A change is seen after this time at the latest.
    pub trust: Duration,
}

impl Directory {
    /// A directory with the default limits: 1,024 entries, 16 MiB in files of up to 64 KiB, 64 open files, a second.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_entries: 1024,
            max_octets: 16 << 20,
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

/// The files below a directory. Paths are taken as they are on disk: no file is hidden, symbolic links are followed,
/// and a directory is answered by its `index.html`. What is neither a file nor a directory is not found.
///
/// A response never mixes two states of a file: one that is written to while it is sent ends with an error, which is a
/// reset in SPDY. One that is replaced (`rename`) is sent as it was.
///
/// # Errors
/// When the path is no directory or cannot be read.
pub fn directory(directory: impl Into<Directory>) -> Result<Router, DirectoryError> {
    let directory = directory.into();
    // Opening it once tells everything at start that would otherwise be a 404 for each visitor.
    if let Err(source) = fs::read_dir(&directory.path) {
        let path = directory.path;
        return Err(DirectoryError { path, source });
    }
    let site = Site {
        path: directory.path.clone(),
        cache: Arc::new(Cache::new(directory)),
    };
    Ok(Router::new().fallback(serve).with_state(Arc::new(site)))
}

#[derive(Debug)]
struct Site {
    path: PathBuf,
    cache: Arc<Cache>,
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
        // It is longer than the file.
        Span::Bytes(0, None).put(&mut head.headers);
        self.answer(Request::from_parts(head, body)).await
    }

    async fn answer(&self, request: Request) -> Response<Body> {
        let is_get = request.method() == Method::GET;
        let uri = request.uri().clone();
        let room = room(&request);
        let visit = Visit::new(Arc::clone(&self.cache));
        // Its own bodies are never read, so they need no buffer. Of several ranges it could send none: all of the file
        // is a valid answer as well.
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
                let contents = Contents::new(entry, start, length(&head), room);
                Response::from_parts(head, Body::new(contents))
            }
            _ => Response::from_parts(head, Body::new(body)),
        }
    }
}

/// How much of a file may be read at once.
fn room(request: &Request) -> PieceRoom {
    match request.extensions().get::<StreamInfo>() {
        Some(stream) => PieceRoom::Stream(stream.room()),
        None if request.version() == Version::HTTP_2 => PieceRoom::Shared,
        None => PieceRoom::Alone,
    }
}

/// Whether a response claims to be a part of an empty file, which has none.
fn is_part_of_nothing(head: &Parts) -> bool {
    let length = head.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    head.status == StatusCode::PARTIAL_CONTENT && length == Some(b"0")
}

/// Whether the body of a response to GET is a file or a part of one.
fn has_file(head: &Parts) -> bool {
    matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
}

fn length(head: &Parts) -> u64 {
    let length = head.headers.get(CONTENT_LENGTH);
    length
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .expect("ServeDir says how long each file or part is")
}

/// A directory cannot be served.
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
