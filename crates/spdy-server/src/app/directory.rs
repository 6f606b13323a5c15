//! A directory of files. tower-http implements the HTTP side: ranges, conditions, redirects and
//! names. This module provides the files: it decides which ones are served, checks them once a
//! second, and keeps small ones in memory.
//!
//! ```text
//! request ──► ServeDir ──► Visit ──► Cache ──► Disk ──► Root ──► disk
//!                │                    │
//!               head  ──────────►  Contents  ──► response
//! ```

mod cache;
mod conditions;
mod config;
mod contents;
mod disk;
mod entry;
mod facts;
mod gzip;
mod jobs;
mod list;
mod memory;
mod page;
mod pieces;
mod places;
mod ranges;
mod root;
mod shares;
mod site;
mod visit;

use std::{fs, future::Future, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header::RANGE, response::Response},
};

pub use self::config::{Directory, DirectoryError};
use self::{
    conditions::{Resumption, Span},
    config::Reason,
    site::Site,
};

/// Serves the files below a directory. A request for a directory returns its `index.html`. What is
/// neither a file nor a directory is not found, and neither is a file that cannot be read.
///
/// No request leads out of the directory. Hidden files are not found, and symbolic links are
/// followed as long as they stay inside: [`Directory`] can allow both. On Linux the kernel watches
/// over this (`openat2`, since 5.6). Elsewhere each link is resolved first, and the result is
/// opened step by step without following one. On Windows it is opened in one step, so what someone
/// replaces by a link at this moment could be outside. A hard link is a file of the directory.
///
/// Text has the parameter `charset=utf-8`. A request for more than 32 ranges, or for ranges that
/// are longer together than the file, gets the whole file.
///
/// A response never mixes two states of a file. If the file is modified while it is sent, the
/// response ends with an error, which is a reset in SPDY. If it is replaced (`rename`), the old
/// file is sent.
///
/// Each answer of the disk, and a place among the open files ([`Directory::max_handles`]), is
/// waited for 30 s at most. Then the request gets 503, or its response ends with an error. The
/// runtime must have its timers enabled.
///
/// ```no_run
/// use spdy_server::app::{self, Directory};
///
/// let mut directory = Directory::new("/var/www");
/// directory.listing = true;
/// directory.not_found = Some("404.html".into());
/// let app = app::directory(directory)?;
/// # Ok::<(), app::DirectoryError>(())
/// ```
///
/// # Errors
/// Returns an error if the path is not a directory or cannot be read, if [`Directory::not_found`]
/// is not a file that is served, or if there are lists or compressed files and no cache. The disk
/// is read at once, on the thread of the caller.
pub fn directory(directory: impl Into<Directory>) -> Result<Router, DirectoryError> {
    let directory = directory.into();
    // Opening the directory reports at start an error that would otherwise be a 404 for each
    // request.
    let path = directory.path.clone();
    let opened = fs::read_dir(&path).map_err(Reason::Unreadable);
    let site = opened.and_then(|_| Site::new(directory));
    let site = site.map_err(|reason| DirectoryError {
        directory: path,
        reason,
    })?;
    Ok(Router::new().fallback(serve).with_state(Arc::new(site)))
}

async fn serve(State(site): State<Arc<Site>>, mut request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        // A range counts only for GET (RFC 9110, section 14.2).
        request.headers_mut().remove(RANGE);
    }
    if let Some(span) = Span::of(request.headers()) {
        span.put(request.headers_mut());
    }
    match Resumption::take(&mut request) {
        None => site.respond(request).await,
        // The box keeps the future of all other requests short.
        Some(resumption) => {
            Box::pin(resume(request, resumption, |request| site.respond(request))).await
        }
    }
}

/// Answers a request for the rest of a download: only if the file is unchanged it gets the rest.
async fn resume<F>(
    request: Request,
    resumption: Resumption,
    respond: impl Fn(Request) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    let without_range = || Request::from_parts(head.clone(), Body::empty());
    let whole = respond(without_range()).await;
    if !resumption.is_possible(whole.headers()) {
        return whole;
    }
    // While the request waits for one open file, it holds no other.
    drop(whole);
    let mut request = Request::from_parts(head.clone(), body);
    resumption.put_back(&mut request);
    let part = respond(request).await;
    match part.status() {
        StatusCode::PARTIAL_CONTENT if resumption.is_possible(part.headers()) => part,
        // The file was replaced between the two.
        StatusCode::PARTIAL_CONTENT => {
            drop(part);
            respond(without_range()).await
        }
        // The range begins behind the end of the file, or of a shorter one that has replaced it.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let now = respond(without_range()).await;
            match resumption.is_possible(now.headers()) {
                true => part,
                false => now,
            }
        }
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, env, process, time::Duration};

    use axum::http::header::{ETAG, IF_RANGE};
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_during_a_request_for_its_rest_is_sent_from_its_beginning() {
        let path = env::temp_dir().join(format!("spdy-resume-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        let mut directory = Directory::new(&path);
        directory.trust = Duration::ZERO;
        let site = Site::new(directory).unwrap();
        // The range is one of the first file, and none of the other one.
        for new in ["the new file", "new"] {
            fs::write(path.join("a"), "old file").unwrap();
            let get = || Request::get("/a");
            let before = site.respond(get().body(Body::empty()).unwrap()).await;
            let request = get().header(RANGE, "bytes=4-");
            let request = request.header(IF_RANGE, &before.headers()[ETAG]);
            let requests = Cell::new(0);
            let mut request = request.body(Body::empty()).unwrap();
            let resumption = Resumption::take(&mut request).unwrap();
            let response = resume(request, resumption, |request| {
                requests.set(requests.get() + 1);
                if requests.get() == 2 {
                    fs::write(path.join("b"), new).unwrap();
                    fs::rename(path.join("b"), path.join("a")).unwrap();
                }
                site.respond(request)
            });
            let response = response.await;
            assert_eq!((requests.get(), response.status()), (3, StatusCode::OK));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, new);
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_open_file_is_enough_for_a_request_whose_file_is_replaced_again_and_again() {
        let path = env::temp_dir().join(format!("spdy-resume-one-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a"), "old file").unwrap();
        let mut directory = Directory::new(&path);
        (directory.trust, directory.max_small) = (Duration::ZERO, 0);
        directory.max_handles = 1;
        let site = Site::new(directory).unwrap();
        let get = || Request::get("/a");
        let before = site.respond(get().body(Body::empty()).unwrap()).await;
        let request = get().header(RANGE, "bytes=4-");
        let request = request.header(IF_RANGE, &before.headers()[ETAG]);
        drop(before);
        let requests = Cell::new(0);
        let mut request = request.body(Body::empty()).unwrap();
        let resumption = Resumption::take(&mut request).unwrap();
        let response = resume(request, resumption, |request| {
            requests.set(requests.get() + 1);
            if requests.get() > 1 {
                fs::write(path.join("b"), [0; 10].repeat(requests.get())).unwrap();
                fs::rename(path.join("b"), path.join("a")).unwrap();
            }
            site.respond(request)
        });
        assert_eq!(response.await.status(), StatusCode::OK);
        assert_eq!(requests.get(), 3);
        fs::remove_dir_all(path).unwrap();
    }
}
