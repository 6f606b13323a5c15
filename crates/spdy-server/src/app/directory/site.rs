//! The responses of a directory: what `ServeDir` returns, and what is better here.

use std::{io, path::Path, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap, Method, StatusCode, Uri, Version,
        header::{
            ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
            HeaderValue, LAST_MODIFIED, LOCATION, RANGE,
        },
        response::{Parts, Response},
    },
    response::IntoResponse,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use spdy_tower::StreamInfo;
use tower_http::services::{ServeDir, fs::DefaultServeDirFallback};
use tower_service::Service;

use super::{
    Directory,
    cache::Cache,
    conditions::{Span, leads_below, with_slash},
    config::Reason,
    contents::{Contents, PieceRoom, Source},
    disk::{Disk, Question},
    entry::Entry,
    gzip,
    list::Order,
    page::{self, Page},
    pieces::Reader,
    ranges::{Granted, Ranges},
    root::Below,
    visit::Visit,
};

#[derive(Debug)]
pub(super) struct Site {
    cache: Arc<Cache>,
    reader: Reader,
    lists: bool,
    precompressed: bool,
    not_found: Option<Uri>,
}

/// The future of a response. It is a box, because each function that holds a future has room for
/// all of it.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

impl Site {
    /// # Errors
    /// Returns an error if there is a page for 404 that is not a file which is served, or if there
    /// is no cache for what needs one.
    pub(super) fn new(directory: Directory) -> Result<Self, Reason> {
        if (directory.compress || directory.listing) && directory.max_entries == 0 {
            return Err(Reason::NoCache);
        }
        let page = directory.not_found.as_deref();
        let not_found = page.map(|page| {
            let uri = uri_of_file(&directory, page);
            uri.map_err(|source| Reason::NoPage(page.to_owned(), source))
        });
        Ok(Self {
            not_found: not_found.transpose()?,
            lists: directory.listing,
            precompressed: directory.precompressed,
            cache: Arc::new(Cache::new(directory)),
            reader: Reader::new(),
        })
    }

    pub(super) fn respond(&self, request: Request) -> Answer<'_> {
        match Span::of(request.headers()) {
            Some(Span::Suffix(_)) => Box::pin(self.respond_with_end(request)),
            _ => self.answer_or_page(request),
        }
    }

    /// Answers a request for the last bytes of a file.
    async fn respond_with_end(&self, request: Request) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let response = self
            .answer_or_page(Request::from_parts(head.clone(), Body::empty()))
            .await;
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            return response;
        }
        // The range is longer than the file.
        Span::Bytes(0, None).put(&mut head.headers);
        self.answer_or_page(Request::from_parts(head, body)).await
    }

    /// Returns the page for 404 instead of an empty response, if there is one.
    fn answer_or_page(&self, request: Request) -> Answer<'_> {
        match &self.not_found {
            Some(page) => Box::pin(self.answer_with_page(page, request)),
            None => Box::pin(self.answer(request)),
        }
    }

    async fn answer_with_page(&self, page: &Uri, request: Request) -> Response<Body> {
        let for_page = request_for(page, &request);
        let response = self.answer(request).await;
        if response.status() != StatusCode::NOT_FOUND {
            return response;
        }
        let mut page = self.answer(for_page).await;
        if page.status() != StatusCode::OK {
            return response;
        }
        *page.status_mut() = StatusCode::NOT_FOUND;
        for name in [ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
            page.headers_mut().remove(name);
        }
        page
    }

    fn answer(&self, mut request: Request) -> impl Future<Output = Response<Body>> + Send + '_ {
        let asked = Asked::take(&mut request);
        let visit = Visit::new(Arc::clone(&self.cache));
        let files = self.files(&visit, request);
        async move {
            let Ok(response) = files.await;
            if visit.is_late() {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let is_redirect = response.headers().contains_key(LOCATION);
            if !is_redirect && asked.leads_below() {
                return StatusCode::NOT_FOUND.into_response();
            }
            let response = response.map(Body::new);
            match (response.status(), visit.seen()) {
                (StatusCode::NOT_FOUND, _) => match visit.without_index() {
                    Some(directory) if self.lists => Box::pin(self.list(directory, &asked)).await,
                    _ => response,
                },
                (_, None) => response,
                (_, Some((entry, start))) => self.complete(asked, response, entry, start),
            }
        }
    }

    /// Completes the response with what `ServeDir` has found.
    fn complete(
        &self,
        asked: Asked,
        response: Response<Body>,
        entry: Arc<Entry>,
        start: u64,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        if let Some(location) = head.headers.get_mut(LOCATION)
            && let Some(relative) = with_slash(&asked.uri)
        {
            *location = relative;
        }
        if is_part_of_nothing(&head) {
            head.status = StatusCode::OK;
            head.headers.remove(CONTENT_RANGE);
        }
        name_charset(&mut head.headers);
        let granted = match asked.ranges {
            Some(ranges) if head.status == StatusCode::OK => {
                let len = length(&head);
                ranges.apply(&mut head, len)
            }
            _ => Granted::Whole,
        };
        let is_compressed = gzip::apply(&mut head, &entry, asked.accepts_gzip);
        if !asked.is_get || !has_file(&head) {
            return match granted {
                Granted::Nothing => Response::from_parts(head, Body::empty()),
                _ => Response::from_parts(head, body),
            };
        }
        let (range, granted) = match granted {
            Granted::One(range) => (range, Granted::Whole),
            Granted::Several(split) => (0..0, Granted::Several(split)),
            whole => (start..start + length(&head), whole),
        };
        let source = match is_compressed {
            true => Source::compressed(&entry),
            false => Source::of(&entry),
        };
        let contents = Contents::new(source, range, asked.room, self.reader.clone());
        let body = match granted {
            Granted::Several(split) => Body::new(split.body(contents)),
            _ => Body::new(contents),
        };
        Response::from_parts(head, body)
    }

    /// `ServeDir` never reads its own bodies, so they need no buffer. It ignores several ranges.
    fn files(
        &self,
        visit: &Visit,
        request: Request,
    ) -> <ServeDir<DefaultServeDirFallback, Visit> as Service<Request>>::Future {
        let mut files = ServeDir::with_backend("", visit.clone())
            .with_buf_chunk_size(0)
            .ignore_multi_range_requests(true);
        if self.precompressed {
            files = files
                .precompressed_zstd()
                .precompressed_br()
                .precompressed_gzip();
        }
        Service::<Request>::call(&mut files, request)
    }

    async fn list(&self, directory: Below, asked: &Asked) -> Response<Body> {
        let order = Order::of(asked.uri.query());
        let question = Question::In(directory.clone());
        match self.cache.ask(question).await {
            Ok(list) => page::response(Page::new(list.entry, directory, order)),
            Err(late) if late.kind() == io::ErrorKind::TimedOut => {
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// What a response depends on beside the request that `ServeDir` gets.
#[derive(Debug)]
struct Asked {
    uri: Uri,
    is_get: bool,
    accepts_gzip: bool,
    ranges: Option<Ranges>,
    room: PieceRoom,
}

impl Asked {
    /// Takes several ranges out of a request.
    fn take(request: &mut Request) -> Self {
        let is_get = request.method() == Method::GET;
        let ranges = Ranges::of(request.headers());
        if ranges.is_some() {
            request.headers_mut().remove(RANGE);
        }
        Self {
            uri: request.uri().clone(),
            accepts_gzip: gzip::is_accepted(request.headers()),
            ranges,
            room: room(request),
            is_get,
        }
    }

    fn leads_below(&self) -> bool {
        !self.uri.path().ends_with('/') && leads_below(self.uri.path())
    }
}

/// Returns the URI of a file, by its path below a directory.
fn uri_of_file(directory: &Directory, path: &Path) -> io::Result<Uri> {
    let disk = Disk::new(directory.clone());
    let below = disk.root.below(path.to_owned())?;
    let found = disk.look(&Question::At(below), None, None)?;
    if found.entry.facts.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let path = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
    let path = utf8_percent_encode(path, BUT_SLASHES);
    Uri::try_from(format!("/{path}")).map_err(io::Error::other)
}

const BUT_SLASHES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');

/// Returns the request for a page in place of another one, without its conditions.
fn request_for(page: &Uri, instead_of: &Request) -> Request {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = page.clone();
    *request.method_mut() = instead_of.method().clone();
    *request.version_mut() = instead_of.version();
    for accepted in instead_of.headers().get_all(ACCEPT_ENCODING) {
        let fields = request.headers_mut();
        fields.append(ACCEPT_ENCODING, accepted.clone());
    }
    if let Some(stream) = instead_of.extensions().get::<StreamInfo>() {
        request.extensions_mut().insert(stream.clone());
    }
    request
}

/// Adds the charset of text. A file of text has no other place to tell it.
fn name_charset(fields: &mut HeaderMap) {
    if let Some(kind) = fields.get_mut(CONTENT_TYPE)
        && kind.as_bytes().starts_with(b"text/")
        && !kind.as_bytes().contains(&b';')
    {
        let named = [kind.as_bytes(), b"; charset=utf-8"].concat();
        *kind = HeaderValue::from_bytes(&named).expect("it is of two values");
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

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_an_error_of_the_server_after_a_while() {
        let path = env::temp_dir().join(format!("spdy-site-hangs-{}", process::id()));
        fs::create_dir_all(path.join("list")).unwrap();
        fs::write(path.join("a.txt"), "a").unwrap();
        let mut directory = Directory::new(&path);
        (directory.listing, directory.precompressed) = (true, true);
        let site = Site::new(directory).unwrap();
        // As `ServeDir` names them.
        let below = |name: &str| site.cache.below(name.into()).unwrap();
        let status = async |method: Method, uri| {
            let request = Request::builder().method(method).uri(uri);
            let request = request.header(ACCEPT_ENCODING, "br, gzip");
            let request = request.body(Body::empty()).unwrap();
            site.respond(request).await.status()
        };
        let (file, list) = (
            Question::At(below("./a.txt")),
            Question::In(below("./list")),
        );
        for (hung, uri) in [(file, "/a.txt"), (list, "/list/")] {
            let hung = site.cache.hang(hung).await;
            for method in [Method::GET, Method::HEAD] {
                let found = status(method, uri).await;
                assert_eq!(found, StatusCode::SERVICE_UNAVAILABLE, "{uri}");
            }
            drop(hung);
            assert_eq!(status(Method::GET, uri).await, StatusCode::OK, "{uri}");
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_large_file_more_than_may_be_open_is_503_until_a_response_ends() {
        let path = env::temp_dir().join(format!("spdy-site-handles-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        for name in ["a.css", "a.css.gz", "b"] {
            fs::write(path.join(name), [0; 1000]).unwrap();
        }
        let mut directory = Directory::new(&path);
        (directory.max_small, directory.max_handles) = (0, 1);
        directory.precompressed = true;
        let site = Site::new(directory).unwrap();
        let get = async |uri| {
            let request = Request::get(uri).header(ACCEPT_ENCODING, "gzip");
            site.respond(request.body(Body::empty()).unwrap()).await
        };
        // The file and the compressed one are not open together.
        for uri in ["/a.css", "/b"] {
            let unread = get(uri).await;
            assert_eq!(unread.status(), StatusCode::OK);
            let other = if uri == "/b" { "/a.css" } else { "/b" };
            let found = get(other).await.status();
            assert_eq!(found, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(get("/a.css").await.status(), StatusCode::OK);
        fs::remove_dir_all(path).unwrap();
    }
}
