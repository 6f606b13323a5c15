//! `spdy get`: sends requests. Those to the same origin share one session.

mod output;
mod progress;

use std::{fs, io::Read, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use spdy_tower::{Protocol, client::ResponseBody};
use tokio::task::JoinSet;

use self::{
    output::{Output, Turns},
    progress::Progress,
};
use crate::{
    connect::{Connector, Payload, Requests, reason},
    failure::{Exit, Failure, print_json},
    flags::Get,
    origin::{Origin, Url},
};

pub(crate) async fn run(get: Get) -> Result<Exit, Failure> {
    if !get.output.is_empty() && get.output.len() != get.urls.len() {
        let message = "--output must be given once for each URL, or not at all";
        return Err(Failure::new(Exit::Usage, message));
    }
    if get.json && get.output.iter().any(|path| is_stdout(path)) {
        let message = "--output cannot be standard output, because --json writes there";
        return Err(Failure::new(Exit::Usage, message));
    }
    let urls: Vec<_> = get.urls.iter().map(|url| get.reach.reached(url)).collect();
    let has_tls = urls.iter().any(|url| url.origin.is_tls);
    let connector =
        Connector::new(get.offer()?, &get.reach, has_tls)?.windows(STREAM_WINDOW, SESSION_WINDOW);
    let work = Arc::new(Work {
        body: get.data.as_deref().map(read).transpose()?,
        progress: Progress::new(
            get.output.iter().any(|path| !is_stdout(path)) && !get.reach.verbose,
        ),
        turns: Turns::default(),
        connector,
        urls,
        get,
    });

    let mut groups = JoinSet::new();
    for group in by_origin(&work.urls) {
        groups.spawn(Arc::clone(&work).fetch_all(group));
    }
    let mut exits = vec![Exit::Success; work.get.urls.len()];
    for (place, exit) in groups.join_all().await.into_iter().flatten() {
        exits[place] = exit;
    }
    let first = exits.into_iter().find(|&exit| exit != Exit::Success);
    Ok(first.unwrap_or(Exit::Success))
}

/// Returns whether a path is `-`, which stands for standard output as in curl.
fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Groups URLs by origin. Each group holds the places of its URLs.
fn by_origin(urls: &[Url]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Origin, Vec<usize>)> = Vec::new();
    for (place, url) in urls.iter().enumerate() {
        match groups.iter_mut().find(|(origin, _)| **origin == url.origin) {
            Some((_, places)) => places.push(place),
            None => groups.push((&url.origin, vec![place])),
        }
    }
    groups.into_iter().map(|(_, places)| places).collect()
}

/// Returns the body that `--data` describes: a text, or `@` and the name of a file.
fn read(data: &str) -> Result<Bytes, Failure> {
    let Some(name) = data.strip_prefix('@') else {
        return Ok(Bytes::copy_from_slice(data.as_bytes()));
    };
    let bytes = if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(name)
    };
    bytes
        .map(Bytes::from)
        .map_err(|error| Failure::local(format_args!("cannot read {name}"), &error))
}

/// What all requests share.
struct Work {
    get: Get,
    /// The URLs to connect to, in the order of the command line.
    urls: Vec<Url>,
    body: Option<Bytes>,
    connector: Connector,
    turns: Turns,
    progress: Progress,
}

impl Work {
    /// Sends the requests to one origin: all at once, or one after the other over HTTP/1.1.
    async fn fetch_all(self: Arc<Self>, places: Vec<usize>) -> Vec<(usize, Exit)> {
        let origin = &self.urls[places[0]].origin;
        let connection = match self.connector.connect(origin).await {
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
                let outcome = work.fetch(place, &requests).await;
                work.finish(place, outcome).await
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

    /// Reports the failure of a connection for each request that was to use it.
    async fn give_up(&self, places: &[usize], failure: &Failure) -> Vec<(usize, Exit)> {
        let mut exits = Vec::new();
        for &place in places {
            let failure = Failure::new(failure.exit, failure.to_string());
            exits.push(self.finish(place, Err(failure)).await);
        }
        exits
    }

    /// Reports a failed request, and passes standard output on to the next URL.
    async fn finish(&self, place: usize, outcome: Result<Exit, Failure>) -> (usize, Exit) {
        let exit = match outcome {
            Ok(exit) => exit,
            Err(failure) => {
                self.turns.wait(place).await;
                let url = &self.get.urls[place];
                let about_url = Failure::new(failure.exit, format!("{url}: {failure}"));
                self.progress.suspend(|| _ = about_url.report());
                failure
                    .told(self.get.json, ("url", url))
                    .unwrap_or_else(|told: Failure| told.exit)
            }
        };
        self.turns.pass(place).await;
        (place, exit)
    }

    async fn fetch(&self, place: usize, requests: &Requests) -> Result<Exit, Failure> {
        let start = Instant::now();
        let response = requests.send(self.request(place)).await?;
        self.receive(place, response, start).await
    }

    fn request(&self, place: usize) -> Request<Payload> {
        let body = self.body.clone();
        let default = match body {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.get.headers {
            headers.append(name, value.clone());
        }
        headers.entry(ACCEPT).or_insert(ANY_TYPE);
        headers.entry(USER_AGENT).or_insert(AGENT);
        if body.is_some() {
            headers.entry(CONTENT_TYPE).or_insert(FORM);
        }
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = self.get.method.clone().unwrap_or(default);
        *request.uri_mut() = self.urls[place].uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Writes a response to its output, and returns the exit status of the request.
    async fn receive(
        &self,
        place: usize,
        response: Response<ResponseBody>,
        start: Instant,
    ) -> Result<Exit, Failure> {
        let to_head = start.elapsed();
        let (head, mut body) = response.into_parts();
        let protocol = head.extensions.get::<Protocol>();
        let protocol = *protocol.expect("the client records the protocol of each response");
        let url = self.get.urls[place].to_string();
        let bar = self.progress.bar(&url, length(&head.headers));
        let mut output = match self.get.output.get(place) {
            Some(path) if !is_stdout(path) => Output::file(path)?,
            None if self.get.json => Output::nowhere(),
            _ => Output::stdout(&self.turns, place),
        };
        if self.get.include {
            let mut text = format!("{protocol} {}\r\n", head.status).into_bytes();
            write_fields(&mut text, &head.headers);
            output.write(text.into())?;
        }
        let mut bytes = 0;
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let reason = reason(&error);
                let message = format!("incomplete response after {bytes} bytes: {reason}");
                Failure::new(Exit::Exchange, message)
            })?;
            match frame.into_data() {
                Ok(piece) => {
                    bytes += piece.len() as u64;
                    bar.inc(piece.len() as u64);
                    output.write(piece)?;
                }
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        if self.get.include && !trailers.is_empty() {
            let mut text = Vec::new();
            write_fields(&mut text, &trailers);
            output.write(text.into())?;
        }
        output.finish().await?;
        bar.finish();
        if self.get.json {
            self.turns.wait(place).await;
            print_json(&json!({
                "url": url,
                "protocol": protocol.token(),
                "status": head.status.as_u16(),
                "headers": json_fields(&head.headers),
                "trailers": json_fields(&trailers),
                "bytes": bytes,
                "file": self.get.output.get(place).map(|path| path.display().to_string()),
                "seconds_to_head": to_head.as_secs_f64(),
                "seconds": start.elapsed().as_secs_f64(),
            }))?;
        }
        let is_error = head.status.is_client_error() || head.status.is_server_error();
        Ok(if self.get.fail && is_error {
            Exit::Status
        } else {
            Exit::Success
        })
    }
}

/// Returns the length of the body, if the head declares it.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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

fn json_fields(fields: &HeaderMap) -> Value {
    let pair = |(name, value): (_, &HeaderValue)| {
        json!([format!("{name}"), String::from_utf8_lossy(value.as_bytes())])
    };
    fields
        .iter()
        .map(|(name, value)| pair((name.as_str(), value)))
        .collect()
}

const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("spdy/", env!("CARGO_PKG_VERSION")));
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// In bytes: enough for 40 MB/s over a path with a round-trip time of 200 ms.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
const SESSION_WINDOW: u32 = 16 * 1024 * 1024;
