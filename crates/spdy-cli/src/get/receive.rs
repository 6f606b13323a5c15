//! Writes responses to where the user wants them.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_RANGE},
};
use http_body_util::BodyExt;
use spdy_tower::client::ResponseBody;

use super::{Facts, Work, facts::length_of, output::Output};
use crate::{
    connect::reason,
    failure::{Exit, Failure},
};

impl Work {
    /// Writes a response to its output.
    pub(super) async fn receive(
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
            for head in facts.passed.iter().chain(&facts.head) {
                let mut text = format!("{} {}\r\n", head.protocol, head.status).into_bytes();
                write_fields(&mut text, &head.headers);
                output.write_head(text)?;
            }
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
                        facts.is_inflated = true;
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
        // A download that was cut must not look complete.
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

fn write_fields(text: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
}
