//! What is known about a request, for `--json` and `--write-out`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{Value, json};
use spdy_tower::Protocol;

use crate::{
    connect::protocol,
    failure::{Exit, Failure, shown},
    origin::without_user,
    proxies::WANTS_USER,
};

/// What is known about a request and its response.
pub(super) struct Facts {
    /// The URL as the user has written it.
    pub(super) url: String,
    /// The URL of the response, after redirects.
    pub(super) effective: Option<Uri>,
    pub(super) method: Method,
    /// The heads of the redirects that were followed.
    pub(super) passed: Vec<Head>,
    pub(super) head: Option<Head>,
    pub(super) trailers: HeaderMap,
    /// The bytes of the response's body that have arrived, before decompression.
    pub(super) received: u64,
    /// Whether the body is decompressed.
    pub(super) is_inflated: bool,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) redirects: Arc<AtomicU32>,
    pub(super) file: Option<PathBuf>,
    pub(super) exit: Exit,
    pub(super) error: String,
    /// Whether a proxy sends the request on, so that it can answer in place of the server.
    pub(super) is_forwarded: bool,
    pub(super) start: Instant,
    /// The time until the response had arrived, or had failed.
    pub(super) took: Duration,
}

/// The head of a response.
pub(super) struct Head {
    pub(super) protocol: Protocol,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The time until it had arrived.
    pub(super) after: Duration,
}

impl Head {
    /// Returns the head of a response to a request that began at this moment.
    pub(super) fn of<B>(response: &Response<B>, start: Instant) -> Self {
        Self {
            protocol: protocol(response),
            status: response.status(),
            headers: response.headers().clone(),
            after: start.elapsed(),
        }
    }
}

impl Facts {
    pub(super) fn new(url: String, method: Method, file: Option<PathBuf>) -> Self {
        Self {
            url,
            effective: None,
            method,
            passed: Vec::new(),
            head: None,
            trailers: HeaderMap::new(),
            received: 0,
            is_inflated: false,
            sent: Arc::default(),
            redirects: Arc::default(),
            file,
            exit: Exit::Success,
            error: String::new(),
            is_forwarded: false,
            start: Instant::now(),
            took: Duration::ZERO,
        }
    }

    pub(super) fn was_redirected(&self) -> bool {
        self.redirects.load(Ordering::Relaxed) > 0
    }

    /// Fails if the status is 400 or above.
    pub(super) fn check_status(&self) -> Result<(), Failure> {
        let status = self.head.as_ref().map(|head| head.status);
        let message = match status.filter(|status| status.as_u16() >= 400) {
            None => return Ok(()),
            Some(status @ StatusCode::PROXY_AUTHENTICATION_REQUIRED) if self.is_forwarded => {
                format!("the proxy answers {status}: {WANTS_USER}")
            }
            Some(status) => format!("the server answers {status}"),
        };
        Err(Failure::new(Exit::Status, message))
    }

    /// Returns whether a body of SPDY that has ended is shorter than its head declares, which is
    /// only advice there. In other protocols the body itself has failed then.
    pub(super) fn is_cut(&self) -> bool {
        let has_length = |head: &&Head| {
            let without = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
            let is_spdy = matches!(head.protocol, Protocol::Spdy(_));
            is_spdy && self.method != Method::HEAD && !without.contains(&head.status)
        };
        let length = self.head.as_ref().filter(has_length);
        let length = length.and_then(|head| length_of(&head.headers));
        length.is_some_and(|length| self.received < length)
    }

    /// Adds to a failure what has arrived before it, and how to get the rest.
    pub(super) fn explain(&self, failure: &Failure) -> Failure {
        let mut message = format!("{failure}{}", self.progress());
        if let Some(path) = self.file.as_ref().filter(|_| self.received > 0) {
            let path = path.display();
            message += &if self.is_inflated {
                format!(", whose decompressed text is in {path}: it cannot be continued")
            } else {
                format!(", which are in {path}: --continue-at - gets the rest")
            };
        }
        Failure::new(failure.exit, message)
    }

    /// Returns how much of the body has arrived, if there is a response.
    pub(super) fn progress(&self) -> String {
        let Some(head) = &self.head else {
            return " before the response".into();
        };
        match length_of(&head.headers) {
            Some(length) => format!(" after {} of {length} bytes", self.received),
            None => format!(" after {} bytes", self.received),
        }
    }

    /// Describes a response, or the failure to get one.
    pub(super) fn json(&self) -> Value {
        match self.exit {
            Exit::Success => self.described(),
            Exit::Status => {
                let mut facts = self.described();
                facts["error"] = self.error.clone().into();
                facts
            }
            _ => json!({"url": self.url, "error": self.error}),
        }
    }

    fn code(&self) -> String {
        let status = self.head.as_ref().map_or(0, |head| head.status.as_u16());
        format!("{status:03}")
    }

    fn url_effective(&self) -> String {
        let effective = self.effective.as_ref();
        effective.map_or_else(|| self.url.clone(), |uri| without_user(&uri.to_string()))
    }

    fn described(&self) -> Value {
        let head = self.head.as_ref();
        json!({
            "url": self.url,
            "url_effective": self.url_effective(),
            "redirects": self.redirects.load(Ordering::Relaxed),
            "protocol": head.map(|head| head.protocol.token()),
            "status": head.map(|head| head.status.as_u16()),
            "headers": head.map(|head| json_fields(&head.headers)),
            "trailers": json_fields(&self.trailers),
            "bytes": self.received,
            "bytes_sent": self.sent.load(Ordering::Relaxed),
            "file": self.file.as_ref().map(|path| path.display().to_string()),
            "seconds_to_head": head.map(|head| head.after.as_secs_f64()),
            "seconds": self.took.as_secs_f64(),
        })
    }
}

/// Returns the length of the body, if the head declares it.
pub(super) fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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

/// The format of `--write-out`: texts, and what replaces the names between them.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Fact(Fact),
}

type Fact = fn(&Facts) -> String;

impl Format {
    /// Parses a format.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(unescaped(before)));
            if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".into()));
                rest = after;
                continue;
            }
            let named = after.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (name, after) = named.ok_or("% must begin %{NAME}, or be written %%")?;
            let fact = FACTS.iter().find(|(known, _)| *known == name);
            let (_, fact) = fact.ok_or_else(|| {
                let names: Vec<_> = FACTS.iter().map(|(name, _)| *name).collect();
                format!("no name {name}; the names are {}", names.join(", "))
            })?;
            pieces.push(Piece::Fact(*fact));
            rest = after;
        }
        pieces.push(Piece::Text(unescaped(rest)));
        Ok(Self(pieces))
    }

    pub(super) fn of(&self, facts: &Facts) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Fact(fact) => shown(&fact(facts)),
        });
        pieces.collect()
    }
}

/// Replaces `\n`, `\r` and `\t`.
fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\r", "\r")
        .replace("\\t", "\t")
}

/// The names of curl, except for `protocol`.
const FACTS: [(&str, Fact); 14] = [
    ("content_type", |it| {
        let value = it.head.as_ref().and_then(|it| it.headers.get(CONTENT_TYPE));
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    }),
    ("errormsg", |it| it.error.clone()),
    ("exitcode", |it| (it.exit as u8).to_string()),
    ("http_code", Facts::code),
    ("method", |it| it.method.to_string()),
    ("num_redirects", |it| {
        it.redirects.load(Ordering::Relaxed).to_string()
    }),
    ("protocol", |it| {
        let protocol = it.head.as_ref().map(|head| head.protocol.token());
        protocol.unwrap_or_default().to_owned()
    }),
    ("response_code", Facts::code),
    ("size_download", |it| it.received.to_string()),
    ("size_upload", |it| {
        it.sent.load(Ordering::Relaxed).to_string()
    }),
    ("time_starttransfer", |it| {
        seconds(it.head.as_ref().map_or(Duration::ZERO, |head| head.after))
    }),
    ("time_total", |it| seconds(it.took)),
    ("url", |it| it.url.clone()),
    ("url_effective", Facts::url_effective),
];

fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}
