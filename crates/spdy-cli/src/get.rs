//! `spdy get`: sends requests. Those to the same origin share one session.

mod facts;
mod form;
mod output;
mod places;
mod progress;
mod redirects;
mod retries;
mod upload;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, LOCATION, RANGE, USER_AGENT,
    },
};
use http_body_util::BodyExt;
use indicatif::ProgressBar;
use spdy_tower::{Protocol, client::ResponseBody};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::{ServiceExt, service_fn};
use tower_http::follow_redirect::{
    FollowRedirect, RequestUri,
    policy::{FilterCredentials, PolicyExt},
};

pub(crate) use self::{facts::Format, upload::contents};
use self::{
    facts::{Facts, Head, length_of},
    output::{Output, Turns},
    places::{by_origin, files, urls},
    progress::Progress,
    redirects::Redirects,
    retries::{Retries, passing},
    upload::{Payload, Upload},
};
use crate::{
    connect::{Connection, Connector, Requests, protocol, reason},
    failure::{Again, Exit, Failure, note, print, print_json},
    flags::Get,
    interrupt::Interrupt,
    origin::{Origin, Url},
};

/// The byte at which a download begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Byte(u64),
    /// The end of the file that is there.
    End,
}

pub(crate) async fn run(get: Get) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let urls = urls(&get)?;
    let files = files(&get)?;
    let upload = Upload::new(&get.sent)?.map(Arc::new);
    if upload.as_ref().is_some_and(|it| !it.is_repeatable()) && urls.len() > 1 {
        let message = "standard input can be sent to one URL only";
        return Err(Failure::new(Exit::Usage, message));
    }
    // A redirect can lead to https.
    let has_tls = get.location || urls.iter().any(|url| url.origin.is_tls);
    let connector =
        Connector::new(get.offer()?, &get.reach, has_tls)?.windows(STREAM_WINDOW, SESSION_WINDOW);
    let has_files = files.iter().any(Option::is_some) || get.sent.upload_file.is_some();
    let work = Arc::new(Work {
        progress: Progress::new(has_files && !get.reach.verbose && !get.received.silent),
        deadline: get.max_time.map(|time| Instant::now() + time),
        turns: Turns::default(),
        interrupt,
        connector,
        upload,
        files,
        urls,
        get,
    });

    let mut groups = JoinSet::new();
    for group in by_origin(&work.urls) {
        groups.spawn(Arc::clone(&work).fetch_all(group));
    }
    let mut exits = vec![Exit::Success; work.urls.len()];
    for (place, exit) in groups.join_all().await.into_iter().flatten() {
        exits[place] = exit;
    }
    let first = exits.into_iter().find(|&exit| exit != Exit::Success);
    Ok(first.unwrap_or(Exit::Success))
}

/// What all requests share.
struct Work {
    get: Get,
    /// The URLs to connect to, in the order of the command line.
    urls: Vec<Url>,
    /// The file for the body of each URL.
    files: Vec<Option<PathBuf>>,
    upload: Option<Arc<Upload>>,
    connector: Connector,
    turns: Turns,
    progress: Progress,
    interrupt: Interrupt,
    deadline: Option<Instant>,
}

impl Work {
    /// Sends the requests to one origin: all at once, or one after the other over HTTP/1.1.
    async fn fetch_all(self: Arc<Self>, places: Vec<usize>) -> Vec<(usize, Exit)> {
        let origin = &self.urls[places[0]].origin;
        let connecting = self.limited(self.connect(origin)).await;
        let connection = match connecting.unwrap_or_else(Err) {
            Ok(connection) => connection,
            Err(failure) => {
                return self.give_up(&places, &failure).await;
            }
        };
        let mut exits = Vec::new();
        let mut fetches = JoinSet::new();
        for place in places {
            let (work, requests) = (Arc::clone(&self), connection.requests.clone());
            let fetch = async move {
                let mut facts = work.facts(place);
                let outcome = work.fetch(place, &requests, &mut facts);
                let outcome = match work.limited(outcome).await {
                    Ok(outcome) => outcome,
                    Err(early) => Err(facts.explain(&early)),
                };
                work.finish(place, facts, outcome).await
            };
            if connection.protocol == Protocol::Http1 {
                exits.push(fetch.await);
            } else {
                fetches.spawn(fetch);
            }
        }
        exits.extend(fetches.join_all().await);
        connection.end().await;
        exits
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let mut retries = Retries::new(&self.get);
        loop {
            match self.connector.connect(origin).await {
                Err(failure)
                    if failure.again == Again::Safely
                        && self.again(&mut retries, &failure.to_string(), None).await => {}
                connected => return connected,
            }
        }
    }

    /// Waits for the next attempt. Returns whether there is one.
    async fn again(&self, retries: &mut Retries, why: &str, asked: Option<Duration>) -> bool {
        let Some(delay) = retries.take(asked) else {
            return false;
        };
        if self.is_loud() {
            let left = retries.left;
            let text = format!("{why}: trying again after {delay:?}, attempts left: {left}");
            self.progress.suspend(|| note(&text));
        }
        sleep(delay).await;
        true
    }

    /// Ends some work early if the time of the user is up, or at Ctrl-C.
    async fn limited<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let late = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = work => Ok(outcome),
            () = late => Err(Failure::new(Exit::Exchange, "timed out by --max-time")),
            () = self.interrupt.heard() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        }
    }

    /// Reports the failure of a connection for each request that was to use it.
    async fn give_up(&self, places: &[usize], failure: &Failure) -> Vec<(usize, Exit)> {
        let mut exits = Vec::new();
        for &place in places {
            let outcome = Err(failure.clone());
            exits.push(self.finish(place, self.facts(place), outcome).await);
        }
        exits
    }

    /// Reports on a request, and passes standard output on to the next URL.
    async fn finish(
        &self,
        place: usize,
        mut facts: Facts,
        outcome: Result<(), Failure>,
    ) -> (usize, Exit) {
        self.turns.wait(place).await;
        facts.took = facts.start.elapsed();
        facts.exit = match &outcome {
            Err(failure) => failure.exit,
            Ok(()) => Exit::Success,
        };
        if let Err(failure) = &outcome {
            facts.error = failure.to_string();
            if self.is_loud() {
                let about_url = format!("{}: {failure}", facts.url);
                self.progress.suspend(|| note(&about_url));
            }
        }
        let exit = match self.tell(&facts) {
            Err(failure) if facts.exit == Exit::Success => failure.report(),
            _ => facts.exit,
        };
        self.turns.pass(place).await;
        (place, exit)
    }

    /// Writes the facts in the form that the user wants.
    fn tell(&self, facts: &Facts) -> Result<(), Failure> {
        if let Some(format) = &self.get.received.write_out {
            return print(format.of(facts).as_bytes());
        }
        if self.get.received.json {
            return print_json(&facts.json());
        }
        Ok(())
    }

    const fn is_loud(&self) -> bool {
        !self.get.received.silent || self.get.received.show_error
    }

    fn facts(&self, place: usize) -> Facts {
        let sent = &self.get.sent;
        let method = match (&sent.method, &self.upload) {
            (Some(method), _) => method.clone(),
            (None, Some(upload)) => upload.method.clone(),
            (None, None) if sent.head => Method::HEAD,
            (None, None) => Method::GET,
        };
        let url = self.get.urls[place].to_string();
        Facts::new(url, method, self.files[place].clone())
    }

    /// Sends a request until there is a response that is no passing failure, and writes it.
    async fn fetch(
        &self,
        place: usize,
        requests: &Requests,
        facts: &mut Facts,
    ) -> Result<(), Failure> {
        let start = self.start(place)?;
        let mut retries = Retries::new(&self.get);
        let is_repeatable = self.upload.as_ref().is_none_or(|it| it.is_repeatable());
        let response = loop {
            let sent = self.send(place, requests, start, facts).await;
            match passing(&sent, facts) {
                Some((why, asked)) if is_repeatable => {
                    let why = format!("{}: {why}", facts.url);
                    if self.again(&mut retries, &why, asked).await {
                        continue;
                    }
                }
                _ => {}
            }
            break sent?;
        };
        self.receive(place, response, start, facts).await
    }

    /// Returns the byte at which the download of a URL begins.
    fn start(&self, place: usize) -> Result<u64, Failure> {
        match (self.get.received.continue_at, &self.files[place]) {
            (Some(Start::Byte(start)), _) => Ok(start),
            (Some(Start::End), Some(path)) => match fs::metadata(path) {
                Ok(about) => Ok(about.len()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
                Err(error) => {
                    let what = format_args!("cannot read {}", path.display());
                    Err(Failure::local(what, &error))
                }
            },
            _ => Ok(0),
        }
    }

    /// Sends a request, and follows redirects if the user wants that.
    async fn send(
        &self,
        place: usize,
        requests: &Requests,
        start: u64,
        facts: &mut Facts,
    ) -> Result<Response<ResponseBody>, Failure> {
        let request = self.request(place, start, facts)?;
        let response = if self.get.location {
            let policy = Redirects {
                upload: self.upload.clone(),
                sent: Arc::clone(&facts.sent),
                count: Arc::clone(&facts.redirects),
                unopened: Arc::default(),
                is_away: false,
            };
            let unopened = Arc::clone(&policy.unopened);
            policy.count.store(0, Ordering::Relaxed);
            let policy = policy.and::<_, Payload, Failure>(FilterCredentials::new());
            let requests = requests.clone();
            let first = request.uri().clone();
            let once = service_fn(move |request: Request<Payload>| {
                let requests = requests.clone();
                let next = Some(request.uri().clone()).filter(|uri| *uri != first);
                async move {
                    let sent = requests.send(request).await;
                    sent.map_err(|failure| match next {
                        Some(next) => failure.after(format_args!("redirected to {next}")),
                        None => failure,
                    })
                }
            });
            let following = FollowRedirect::with_policy(once, policy);
            let response = following.oneshot(request).await?;
            let effective = response.extensions().get::<RequestUri>();
            facts.effective = effective.map(|uri| uri.0.clone());
            self.check_followed(&response, unopened.get())?;
            response
        } else {
            requests.send(request).await?
        };
        facts.head = Some(Head {
            protocol: protocol(&response),
            status: response.status(),
            headers: response.headers().clone(),
            after: facts.start.elapsed(),
        });
        Ok(response)
    }

    /// A redirect is left if it asks for a body that is gone or `unopened`, or leads to no URL.
    fn check_followed<B>(
        &self,
        response: &Response<B>,
        unopened: Option<&Failure>,
    ) -> Result<(), Failure> {
        let asks = matches!(response.status().as_u16(), 301..=303 | 307 | 308);
        let Some(location) = response.headers().get(LOCATION).filter(|_| asks) else {
            return Ok(());
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        let failure = match (&self.upload, unopened) {
            (_, Some(unopened)) => unopened.clone(),
            (Some(upload), _) if !upload.is_repeatable() => {
                Failure::new(Exit::Local, "the body cannot be sent again")
            }
            _ => Failure::new(Exit::Exchange, "that is no valid URL"),
        };
        Err(failure.after(format_args!("redirect to {location}")))
    }

    fn request(
        &self,
        place: usize,
        start: u64,
        facts: &Facts,
    ) -> Result<Request<Payload>, Failure> {
        let sent = &self.get.sent;
        let mut headers = HeaderMap::new();
        let own = [
            (ACCEPT, Some(ANY_TYPE)),
            (AUTHORIZATION, sent.user.clone()),
            (USER_AGENT, Some(sent.user_agent.clone().unwrap_or(AGENT))),
            (ACCEPT_ENCODING, sent.compressed.then_some(GZIP)),
            (RANGE, (start > 0).then(|| range(start))),
        ];
        headers.extend(
            own.into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let mut request = Request::new(Payload::default());
        if let Some(upload) = &self.upload {
            let bar = self.upload_bar(place);
            let (body, length) = upload.open(&bar, &facts.sent)?;
            if let Some(length) = length {
                bar.set_length(length);
                headers.insert(CONTENT_LENGTH, length.into());
            }
            if let Some(content_type) = &upload.content_type {
                headers.insert(CONTENT_TYPE, content_type.clone());
            }
            *request.body_mut() = body;
        }
        put_fields(&mut headers, &sent.headers);
        *request.method_mut() = facts.method.clone();
        *request.uri_mut() = self.urls[place].uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn upload_bar(&self, place: usize) -> ProgressBar {
        let Some(path) = &self.get.sent.upload_file else {
            return ProgressBar::hidden();
        };
        let length = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        let length = length.map(|about| about.len());
        self.progress.bar(&self.urls[place].to_string(), length)
    }

    /// Writes a response to its output.
    async fn receive(
        &self,
        place: usize,
        response: Response<ResponseBody>,
        start: u64,
        facts: &mut Facts,
    ) -> Result<(), Failure> {
        let (head, mut body) = response.into_parts();
        if self.get.received.fail {
            facts.check_status()?;
        }
        if start > 0 && !continues(start, head.status, &head.headers)? {
            return Ok(());
        }
        let bar = self.progress.bar(&facts.url, length_of(&head.headers));
        let mut output = match &self.files[place] {
            Some(path) => Output::file(path, start)?,
            None if self.get.received.json => Output::nowhere(),
            None => Output::stdout(&self.turns, place),
        };
        let shows_head = self.get.received.include || self.get.sent.head;
        if shows_head {
            let protocol = facts.head.as_ref().expect("it has arrived").protocol;
            let mut text = format!("{protocol} {}\r\n", head.status).into_bytes();
            write_fields(&mut text, &head.headers);
            output.write_head(text)?;
        }
        let is_gzip = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"gzip");
        let is_gzip = head.headers.get(CONTENT_ENCODING).is_some_and(is_gzip);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let progress = facts.progress();
                let message = format!("incomplete response{progress}: {}", reason(&error));
                Failure::new(Exit::Exchange, message)
            })?;
            match frame.into_data() {
                Ok(piece) => {
                    if facts.received == 0 && is_gzip && self.get.sent.compressed {
                        output.inflate();
                    }
                    facts.received += piece.len() as u64;
                    bar.inc(piece.len() as u64);
                    output.write(piece)?;
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    facts.trailers.extend(trailers);
                }
            }
        }
        output.finish().await?;
        if shows_head && !facts.trailers.is_empty() {
            let mut text = Vec::new();
            write_fields(&mut text, &facts.trailers);
            output.write_head(text)?;
        }
        // In SPDY the length is only advice. A download that was cut must not look complete.
        if facts.is_cut() {
            let progress = facts.progress();
            let message = format!("incomplete response{progress}: the server ended it early");
            return Err(Failure::new(Exit::Exchange, message));
        }
        bar.finish();
        if self.get.received.fail_with_body {
            facts.check_status()?;
        }
        Ok(())
    }
}

/// Returns whether a response continues a download at byte `start`. It does not if the download is
/// complete.
fn continues(start: u64, status: StatusCode, headers: &HeaderMap) -> Result<bool, Failure> {
    let range = headers.get(CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    let range = range.unwrap_or_default();
    match status {
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("{start}-")) => Ok(true),
        StatusCode::RANGE_NOT_SATISFIABLE if range == format!("*/{start}") => Ok(false),
        _ => {
            let message = format!("cannot continue at byte {start}: the server answers {status}");
            Err(Failure::new(Exit::Exchange, message))
        }
    }
}

/// Puts the fields of the user in place of those of the same names.
pub(crate) fn put_fields(headers: &mut HeaderMap, fields: &[(HeaderName, Option<HeaderValue>)]) {
    for (name, _) in fields {
        headers.remove(name);
    }
    for (name, value) in fields {
        if let Some(value) = value {
            headers.append(name, value.clone());
        }
    }
}

fn range(start: u64) -> HeaderValue {
    let range = format!("bytes={start}-");
    HeaderValue::from_str(&range).expect("it is ASCII")
}

fn write_fields(text: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
}

const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("spdy/", env!("CARGO_PKG_VERSION")));

/// In bytes: enough for 40 MB/s over a path with a round-trip time of 200 ms.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
const SESSION_WINDOW: u32 = 16 * 1024 * 1024;
