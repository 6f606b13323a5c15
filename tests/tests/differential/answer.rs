//! What a client has got, in a form that all protocols share.

use std::fmt;

use http::{HeaderMap, Response};
use http_body::Body;
use http_body_util::BodyExt;

/// An answer, or the lack of one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `None`: the request failed before the head of an answer came.
    pub(crate) status: Option<u16>,
    /// Sorted by name, the values of a name in their order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Whole,
    /// By an error.
    Cut,
    /// The client had enough of it.
    Left,
    /// Not within a minute.
    Hangs,
}

impl Answer {
    /// No answer has come.
    pub(crate) const fn none(end: End) -> Self {
        Self {
            status: None,
            fields: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            end,
        }
    }

    /// Reads the body of a response, or `enough` of it.
    pub(crate) async fn read<B: Body<Data: AsRef<[u8]>>>(
        response: Response<B>,
        enough: Option<usize>,
    ) -> Self {
        let (head, body) = response.into_parts();
        let mut answer = Self::head(head.status.as_u16(), listed(&head.headers));
        let mut body = std::pin::pin!(body);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                answer.end = End::Cut;
                break;
            };
            match frame.into_data() {
                Ok(piece) => {
                    answer.body.extend_from_slice(piece.as_ref());
                    if enough.is_some_and(|enough| answer.leave(enough)) {
                        break;
                    }
                }
                Err(frame) => answer.trailers = frame.trailers_ref().map_or_else(Vec::new, listed),
            }
        }
        answer
    }

    /// An answer whose head has come.
    pub(crate) fn head(status: u16, fields: Vec<(String, String)>) -> Self {
        Self {
            status: Some(status),
            fields,
            ..Self::none(End::Whole)
        }
    }

    /// Whether the body is long enough to be left. How long it got until then is chance.
    pub(crate) fn leave(&mut self, enough: usize) -> bool {
        let is_enough = self.body.len() >= enough;
        if is_enough {
            self.body.truncate(enough);
            self.end = End::Left;
        }
        is_enough
    }

    /// Whether two answers look the same to a person.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.retain(|field| field.0 != name);
    }
}

/// Fields sorted by name.
pub(crate) fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| value.escape_ascii().to_string();
    let fields = headers.iter();
    let mut listed: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    listed
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.body[..self.body.len().min(120)];
        write!(
            f,
            "{:?} {:?}, {} bytes \"{}\"",
            self.status,
            self.end,
            self.body.len(),
            start.escape_ascii()
        )?;
        for (name, value) in self.fields.iter().chain(&self.trailers) {
            let start: String = value.chars().take(60).collect();
            write!(f, "\n        {name}: {start}")?;
        }
        Ok(())
    }
}
