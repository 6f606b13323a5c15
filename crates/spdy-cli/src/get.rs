//! `spdy get`: sends requests. Those to the same origin share one session.

mod facts;
mod form;
mod output;
mod places;
mod progress;
mod receive;
mod redirects;
mod report;
mod request;
mod retries;
mod send;
mod upload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use spdy_tower::Protocol;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use self::{
    facts::Facts,
    output::Turns,
    places::{by_origin, files, urls},
    progress::Progress,
    retries::Retries,
    upload::Upload,
};
pub(crate) use self::{facts::Format, request::put_fields, upload::contents};
use crate::{
    connect::{Connection, Connector, Requests},
    failure::{Again, Exit, Failure, note},
    flags::Get,
    interrupt::{Interrupt, Last, TIMED_OUT},
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
    let (json, url) = (get.received.json, get.urls[0].to_string());
    let work = match Work::new(get) {
        Ok(work) => Arc::new(work),
        Err(failure) => return failure.told(json, ("url", url)),
    };
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
    fn new(mut get: Get) -> Result<Self, Failure> {
        // What follows may wait for other programs: standard input, a pipe.
        let deadline = get.max_time.map(|time| Instant::now() + time);
        let is_loud = get.received.is_loud();
        let interrupt = Interrupt::listen_until(deadline.map(|at| Last { at, is_loud }));
        let urls = urls(&get)?;
        let files = files(&get)?;
        let upload = Upload::new(&get.sent)?.map(Arc::new);
        let once = upload.as_ref().and_then(|upload| upload.once());
        if let Some(what) = once.filter(|_| urls.len() > 1) {
            let message = format!("{what} can be sent to one URL only");
            return Err(Failure::new(Exit::Usage, message));
        }
        // The client would make a tunnel for that in any case, and another connection before it.
        get.via.proxytunnel |= get.sent.has_host();
        // A redirect can lead to https.
        let has_tls = get.location || urls.iter().any(|url| url.origin.is_tls);
        let connector = Connector::new(get.offer()?, &get.reach, has_tls)?
            .windows(STREAM_WINDOW, SESSION_WINDOW)
            .through(&get.via)?;
        let has_files = files.iter().any(Option::is_some) || get.sent.upload_file.is_some();
        Ok(Self {
            progress: Progress::new(has_files && !get.reach.verbose && !get.received.silent),
            deadline,
            turns: Turns::default(),
            interrupt,
            connector,
            upload,
            files,
            urls,
            get,
        })
    }

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
                    Err(early) => Err(work.explain(place, &requests, &facts, &early)),
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

    /// Explains why a request ends early, by what has come from its server.
    fn explain(&self, place: usize, via: &Requests, facts: &Facts, early: &Failure) -> Failure {
        let failure = facts.explain(early);
        let url = &self.urls[place].uri;
        Failure::new(failure.exit, via.late(url, failure.to_string()))
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
            () = late => Err(Failure::new(Exit::Exchange, TIMED_OUT)),
            () = self.interrupt.heard() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        }
    }
}

/// In bytes: enough for 40 MB/s over a path with a round-trip time of 200 ms.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
const SESSION_WINDOW: u32 = 16 * 1024 * 1024;
