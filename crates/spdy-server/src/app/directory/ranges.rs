//! Several ranges of a file in one response (`multipart/byteranges`), which `ServeDir` does not
//! support.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use axum::http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
    response::Parts,
};
use bytes::Bytes;
use http_body::{Body, Frame};

use super::{conditions::Span, contents::Contents};

/// The ranges of a request: more than one, and not more than [`MAX_RANGES`].
#[derive(Debug)]
pub(super) struct Ranges(Vec<Span>);

/// The maximum number of ranges of a request. A request for more gets the whole file.
const MAX_RANGES: usize = 32;

/// What a request for several ranges gets.
#[derive(Debug)]
pub(super) enum Granted {
    Whole,
    /// No range has a byte of the file.
    Nothing,
    One(Range<u64>),
    Several(Split),
}

impl Ranges {
    /// Returns the ranges of a request, if there are several and all are valid.
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let list = fields.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
        let ranges = list.split(',').map(str::trim).filter(|it| !it.is_empty());
        let spans: Option<Vec<_>> = ranges.take(MAX_RANGES + 1).map(Span::parse).collect();
        let spans = spans.filter(|spans| spans.iter().all(|span| !is_reversed(*span)));
        let is_some = |spans: &Vec<_>| (2..=MAX_RANGES).contains(&spans.len());
        spans.filter(is_some).map(Self)
    }

    /// Turns the head of a response with a whole file into one with its ranges. As in nginx,
    /// ranges that are longer together than the file get the whole file.
    pub(super) fn apply(&self, head: &mut Parts, len: u64) -> Granted {
        let ranges = self.0.iter().filter_map(|span| span.within(len));
        let ranges: Vec<_> = ranges.collect();
        let sum = ranges.iter().map(|range| range.end - range.start);
        let sum = sum.fold(0, u64::saturating_add);
        if head.status != StatusCode::OK || head.headers.contains_key(CONTENT_ENCODING) || sum > len
        {
            return Granted::Whole;
        }
        match &ranges[..] {
            [] => {
                head.status = StatusCode::RANGE_NOT_SATISFIABLE;
                head.headers.remove(CONTENT_TYPE);
                head.headers.remove(CONTENT_LENGTH);
                head.headers
                    .insert(CONTENT_RANGE, value(format!("bytes */{len}")));
                Granted::Nothing
            }
            [range] => {
                head.status = StatusCode::PARTIAL_CONTENT;
                head.headers.insert(CONTENT_RANGE, value(named(range, len)));
                head.headers.insert(CONTENT_LENGTH, sum.into());
                Granted::One(range.clone())
            }
            _ => {
                head.status = StatusCode::PARTIAL_CONTENT;
                let split = Split::new(ranges, head.headers.get(CONTENT_TYPE), len);
                let kind = format!("multipart/byteranges; boundary={}", split.boundary);
                head.headers.insert(CONTENT_TYPE, value(kind));
                head.headers
                    .insert(CONTENT_LENGTH, (sum + split.frame_bytes()).into());
                Granted::Several(split)
            }
        }
    }
}

fn is_reversed(span: Span) -> bool {
    matches!(span, Span::Bytes(first, Some(last)) if first > last)
}

fn named(range: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end - 1)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("it is of letters and digits")
}

/// A file that is sent in parts.
#[derive(Debug)]
pub(super) struct Split {
    ranges: Vec<Range<u64>>,
    /// The type of the file.
    kind: String,
    len: u64,
    boundary: String,
}

impl Split {
    fn new(ranges: Vec<Range<u64>>, kind: Option<&HeaderValue>, len: u64) -> Self {
        let kind = kind.and_then(|kind| kind.to_str().ok());
        Self {
            kind: kind.unwrap_or_default().to_owned(),
            // A file cannot contain it on purpose.
            boundary: format!("{:016x}", RandomState::new().hash_one(len)),
            ranges,
            len,
        }
    }

    fn before(&self, range: &Range<u64>) -> String {
        format!(
            "\r\n--{}\r\ncontent-type: {}\r\ncontent-range: {}\r\n\r\n",
            self.boundary,
            self.kind,
            named(range, self.len)
        )
    }

    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// Returns how many bytes of the body are not of the file.
    fn frame_bytes(&self) -> u64 {
        let before = self.ranges.iter().map(|range| self.before(range).len());
        (before.sum::<usize>() + self.end().len()) as u64
    }

    /// Returns the body, which reads the parts with `contents`: so far no bytes.
    pub(super) fn body(mut self, contents: Contents) -> Multipart {
        Multipart {
            ranges: std::mem::take(&mut self.ranges).into_iter(),
            split: self,
            contents,
            is_over: false,
        }
    }
}

/// Parts of a file as the body of a response.
#[derive(Debug)]
pub(super) struct Multipart {
    split: Split,
    ranges: vec::IntoIter<Range<u64>>,
    contents: Contents,
    is_over: bool,
}

impl Body for Multipart {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.contents.is_end_stream() {
            return Pin::new(&mut self.contents).poll_frame(cx);
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let text = match self.ranges.next() {
            Some(range) => {
                let text = self.split.before(&range);
                self.contents.aim(range);
                text
            }
            None => {
                self.is_over = true;
                self.split.end()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
