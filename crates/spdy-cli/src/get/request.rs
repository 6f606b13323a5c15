//! The requests: their heads, and the bars of their uploads.

use std::fs;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE, USER_AGENT,
    },
};
use indicatif::ProgressBar;

use super::{Facts, Start, Work, upload::Payload};
use crate::failure::Failure;

impl Work {
    pub(super) fn facts(&self, place: usize) -> Facts {
        let sent = &self.get.sent;
        let method = match (&sent.method, &self.upload) {
            (Some(method), _) => method.clone(),
            (None, Some(upload)) => upload.method.clone(),
            (None, None) if sent.head => Method::HEAD,
            (None, None) => Method::GET,
        };
        let url = self.get.urls[place].to_string();
        let mut facts = Facts::new(url, method, self.files[place].clone());
        facts.is_forwarded = self.is_forwarded(&self.urls[place].uri);
        facts
    }

    fn is_forwarded(&self, url: &Uri) -> bool {
        let has_tunnel = !self.get.http1 || self.get.via.proxytunnel;
        !has_tunnel && url.scheme_str() == Some("http") && self.connector.has_proxy(url)
    }

    /// Returns the byte at which the download of a URL begins.
    pub(super) fn start(&self, place: usize) -> Result<u64, Failure> {
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

    pub(super) async fn request(
        &self,
        place: usize,
        start: u64,
        facts: &Facts,
    ) -> Result<Request<Payload>, Failure> {
        let sent = &self.get.sent;
        let mut headers = HeaderMap::new();
        let agent = sent.user_agent.clone().unwrap_or(AGENT);
        let own = [
            (ACCEPT, Some(ANY_TYPE)),
            (AUTHORIZATION, sent.user.clone()),
            (USER_AGENT, Some(agent).filter(|agent| !agent.is_empty())),
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
            let (body, length) = upload.begin(&bar, &facts.sent).await?;
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

const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("spdy/", env!("CARGO_PKG_VERSION")));
