//! Requests over a session of SPDY, by its handles.

use bytes::Bytes;
use http::{Request, uri::PathAndQuery};
use spdy_frame::{HeaderBlock, HeaderError, Version};
use spdy_tower::session::{OpenOptions, Received, SendStream, Session, StreamError};

use super::lane::{Outcome, is_repeatable};
use crate::{connect::Payload, failure::sentence};

/// A session, and the request in the form of its version.
pub(super) struct Exchanges {
    session: Session,
    head: HeaderBlock,
    body: Option<Bytes>,
    is_repeatable: bool,
}

impl Exchanges {
    /// Returns `None` if the request cannot be expressed.
    pub(super) fn new(
        session: Session,
        request: &Request<Payload>,
        body: Option<Bytes>,
    ) -> Option<Self> {
        let head = head(session.version(), request, body.as_ref()).ok()?;
        Some(Self {
            is_repeatable: is_repeatable(request, body.as_ref()),
            session,
            head,
            body,
        })
    }

    /// Sends the request once.
    pub(super) async fn one(&self) -> Outcome {
        let how = OpenOptions::new().fin(self.body.is_none());
        let Ok(stream) = self.session.open(self.head.clone(), how).await else {
            return Outcome::Unsent;
        };
        let (mut receive, send) = stream.split();
        if let Some(body) = &self.body {
            // A response may come before the whole body is sent.
            tokio::spawn(upload(send, body.clone()));
        }
        let answer = async {
            let head = receive.response_headers().await?;
            let mut bytes = 0;
            while let Some(received) = receive.next().await {
                if let Received::Data(piece) = received? {
                    bytes += piece.len() as u64;
                }
            }
            Ok((status(self.session.version(), &head), bytes))
        };
        match answer.await {
            Ok((Some(status), bytes)) => Outcome::Answered((status, bytes)),
            Ok((None, _)) => Outcome::Failed("response has no valid status".into()),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &StreamError) -> Outcome {
        match error {
            error if error.is_retry_safe() => Outcome::Unsent,
            StreamError::Session(_) if self.is_repeatable => Outcome::Unsent,
            error => Outcome::Failed(sentence(error)),
        }
    }
}

async fn upload(mut send: SendStream, mut body: Bytes) -> Result<(), StreamError> {
    loop {
        send.ready().await?;
        let piece = body.split_to(body.len().min(PIECE));
        send.send_data(piece, body.is_empty())?;
        if body.is_empty() {
            return Ok(());
        }
    }
}

fn head(
    version: Version,
    request: &Request<Payload>,
    body: Option<&Bytes>,
) -> Result<HeaderBlock, HeaderError> {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let values = [
        request.method().as_str(),
        target,
        "HTTP/1.1",
        uri.authority().map_or("", |host| host.as_str()),
        uri.scheme_str().unwrap_or("http"),
    ];
    let mut block = HeaderBlock::from_pairs(names.into_iter().zip(values))?;
    for (name, value) in request.headers() {
        block.append(name.as_str(), value.as_bytes())?;
    }
    if let Some(body) = body {
        block.append("content-length", body.len().to_string())?;
    }
    Ok(block)
}

/// Returns the status: three digits, and an optional reason phrase.
fn status(version: Version, head: &HeaderBlock) -> Option<u16> {
    let name = match version {
        Version::V2 => "status",
        Version::V3 | Version::V3_1 => ":status",
    };
    let (digits, rest) = head.get(name)?.split_at_checked(3)?;
    let status = str::from_utf8(digits).ok()?.parse().ok()?;
    ((200..1000).contains(&status) && matches!(rest, [] | [b' ', ..])).then_some(status)
}

/// The bytes of a body that are queued at once.
const PIECE: usize = 64 * 1024;
