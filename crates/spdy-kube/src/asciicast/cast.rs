//! The text of a recording.

use std::{
    fmt,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use tokio::time::Instant;

use super::Asciicast;
use crate::{Passing, Size, Status};

/// A recording, as far as it is not written.
pub(super) struct Cast {
    how: Asciicast,
    begin: Instant,
    /// Whether the first line was made.
    has_begun: bool,
    /// Whether nothing more is recorded.
    is_over: bool,
    text: Vec<u8>,
    events: u64,
    stdout: Decoder,
    stderr: Decoder,
    stdin: Decoder,
}

/// Shows nothing of what is recorded.
impl fmt::Debug for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cast")
            .field("events", &self.events)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl Cast {
    pub(super) fn new(how: Asciicast) -> Self {
        Self {
            how,
            begin: Instant::now(),
            has_begun: false,
            is_over: false,
            text: Vec::new(),
            events: 0,
            stdout: Decoder::default(),
            stderr: Decoder::default(),
            stdin: Decoder::default(),
        }
    }

    /// Returns the number of events that were recorded.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Takes the text that is not written: the text, the number of events up to its end, and
    /// whether nothing follows.
    pub(super) fn take(&mut self) -> (Vec<u8>, u64, bool) {
        (std::mem::take(&mut self.text), self.events, self.is_over)
    }

    /// Records nothing more, because it cannot be written.
    pub(super) fn stop(&mut self) {
        self.is_over = true;
        self.text = Vec::new();
    }

    /// Records what passes.
    pub(super) fn pass(&mut self, what: Passing<'_>) {
        let (code, data) = match what {
            Passing::Stdout(bytes) => ("o", self.stdout.decode(bytes)),
            Passing::Stderr(bytes) => ("o", self.stderr.decode(bytes)),
            Passing::Stdin(bytes) if self.how.has_input => ("i", self.stdin.decode(bytes)),
            Passing::Stdin(_) | Passing::StdinEnd => return,
            Passing::Resize(size) if self.has_begun => ("r", text_of(size)),
            Passing::Resize(size) => return self.begin(size),
        };
        self.event(code, &data);
    }

    /// Records the outcome of the session.
    pub(super) fn mark(&mut self, outcome: Option<&Status>) {
        let rest = [
            ("o", self.stdout.rest()),
            ("o", self.stderr.rest()),
            ("i", self.stdin.rest()),
        ];
        for (code, data) in rest {
            self.event(code, data);
        }
        let outcome = outcome.map_or_else(|| "client is gone".to_owned(), Status::to_string);
        self.event("m", &outcome);
    }

    /// Ends the recording.
    pub(super) fn end(&mut self) {
        self.begin(self.how.size);
        self.is_over = true;
    }

    /// Adds an event, unless it has no data.
    fn event(&mut self, code: &str, data: &str) {
        if self.is_over || data.is_empty() {
            return;
        }
        self.begin(self.how.size);
        let seconds = self.begin.elapsed().as_secs_f64();
        // Writing to memory cannot fail.
        _ = write!(self.text, "[{seconds:.6},\"{code}\",");
        _ = serde_json::to_writer(&mut self.text, data);
        self.text.extend_from_slice(b"]\n");
        self.events += 1;
    }

    /// Adds the first line, unless it is there.
    fn begin(&mut self, size: Size) {
        if self.is_over || self.has_begun {
            return;
        }
        self.has_begun = true;
        let is_size = size.width > 0 && size.height > 0;
        let Size { width, height } = if is_size { size } else { self.how.size };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut head = json!({"version": 2, "width": width, "height": height});
        head["timestamp"] = since.unwrap_or_default().as_secs().into();
        if let Some(title) = &self.how.title {
            head["title"] = title.as_str().into();
        }
        // Writing to memory cannot fail.
        _ = writeln!(self.text, "{head}");
        self.events += 1;
    }
}

fn text_of(Size { width, height }: Size) -> String {
    format!("{width}x{height}")
}

/// Turns bytes into text. A character can be split between pieces.
#[derive(Debug, Default)]
struct Decoder {
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.begun);
        let bytes = match joined.is_empty() {
            true => bytes,
            false => {
                joined.extend_from_slice(bytes);
                &joined
            }
        };
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let is_last = chunks.peek().is_none();
            match chunk.invalid() {
                [] => {}
                begun if is_last && is_begun(begun) => self.begun = begun.to_vec(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        text
    }

    /// Returns the text for a character that nothing completes.
    fn rest(&mut self) -> &'static str {
        match std::mem::take(&mut self.begun)[..] {
            [] => "",
            _ => "\u{fffd}",
        }
    }
}

/// Returns whether bytes are the beginning of a character.
fn is_begun(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_be_split_anywhere() {
        let bytes = "a\u{e9}\u{20ac}\u{1f600}b\u{0}\n\"".as_bytes();
        let bytes = [bytes, b"\xff\xe2\x82\xffz\xc3".as_slice()].concat();
        let expected = String::from_utf8_lossy(&bytes);
        for cut in 0..=bytes.len() {
            for length in 1..4 {
                let (first, second) = bytes.split_at(cut);
                let mut decoder = Decoder::default();
                let mut text = decoder.decode(first);
                for piece in second.chunks(length) {
                    text += &decoder.decode(piece);
                    assert!(decoder.begun.len() < 4);
                }
                text += decoder.rest();
                assert_eq!(text, expected, "cut at {cut}");
            }
        }
    }
}
