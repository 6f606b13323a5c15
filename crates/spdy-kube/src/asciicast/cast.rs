//! The text of a recording.

use std::{
    fmt,
    io::Write,
    mem,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use tokio::time::Instant;

use super::{
    Asciicast,
    text::{Decoder, add, add_base64, is_text},
};
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
    /// Whether the last output was not text.
    is_binary: bool,
    /// Whether the last output was that of errors.
    is_stderr: bool,
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
            is_binary: false,
            is_stderr: false,
        }
    }

    /// Returns the number of events that were recorded.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Takes the text that is not written: the text, the number of events up to its end, and
    /// whether nothing follows.
    pub(super) fn take(&mut self) -> (Vec<u8>, u64, bool) {
        (mem::take(&mut self.text), self.events, self.is_over)
    }

    /// Records nothing more, because it cannot be written.
    pub(super) fn stop(&mut self) {
        self.is_over = true;
        self.text = Vec::new();
    }

    /// Records what passes.
    pub(super) fn pass(&mut self, what: Passing<'_>) {
        let (stream, data) = match what {
            Passing::Stdout(bytes) => (Stream::Stdout, self.stdout.whole(bytes)),
            Passing::Stderr(bytes) => (Stream::Stderr, self.stderr.whole(bytes)),
            Passing::Stdin(bytes) if self.how.has_input => (Stream::Stdin, self.stdin.whole(bytes)),
            Passing::Stdin(_) | Passing::StdinEnd => return,
            Passing::Resize(size) if self.has_begun => {
                return self.event("r", text_of(size).as_bytes(), add);
            }
            Passing::Resize(size) => return self.begin(size),
        };
        self.bytes(stream, &data);
    }

    /// Records the outcome of the session.
    pub(super) fn mark(&mut self, outcome: Option<&Status>) {
        let rest = [
            (Stream::Stdout, self.stdout.rest()),
            (Stream::Stderr, self.stderr.rest()),
            (Stream::Stdin, self.stdin.rest()),
        ];
        for (stream, data) in rest {
            self.bytes(stream, &data);
        }
        let outcome = outcome.map_or_else(|| "client is gone".to_owned(), Status::to_string);
        self.event("m", outcome.as_bytes(), add);
    }

    /// Ends the recording.
    pub(super) fn end(&mut self) {
        self.begin(self.how.size);
        self.is_over = true;
    }

    /// Adds bytes of a stream: as text, or as they are if they are not text and that is wanted.
    fn bytes(&mut self, stream: Stream, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if !self.how.is_exact {
            return self.event(stream.code(), data, add);
        }
        let is_binary = !is_text(data);
        if stream != Stream::Stdin {
            let is_stderr = stream == Stream::Stderr;
            if mem::replace(&mut self.is_stderr, is_stderr) != is_stderr {
                let name: &[u8] = if is_stderr { b"stderr" } else { b"stdout" };
                self.event("s", name, add);
            }
            if !mem::replace(&mut self.is_binary, is_binary) && is_binary {
                self.event("m", b"bytes that are not text", add);
            }
        }
        match is_binary {
            true => self.event(stream.binary_code(), data, add_base64),
            false => self.event(stream.code(), data, add),
        }
    }

    /// Adds an event, unless it has no data.
    fn event(&mut self, code: &str, data: &[u8], add: fn(&[u8], &mut Vec<u8>)) {
        if self.is_over || data.is_empty() {
            return;
        }
        self.begin(self.how.size);
        let seconds = self.begin.elapsed().as_secs_f64();
        // Writing to memory cannot fail.
        _ = write!(self.text, "[{seconds:.6},\"{code}\",\"");
        add(data, &mut self.text);
        self.text.extend_from_slice(b"\"]\n");
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
        if self.how.is_exact {
            head["exact"] = true.into();
        }
        if let Some(title) = &self.how.title {
            head["title"] = title.as_str().into();
        }
        // Writing to memory cannot fail.
        _ = writeln!(self.text, "{head}");
        self.events += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
    Stdin,
}

impl Stream {
    /// Returns the code of an event that has a text.
    const fn code(self) -> &'static str {
        match self {
            Self::Stdout | Self::Stderr => "o",
            Self::Stdin => "i",
        }
    }

    /// Returns the code of an event that has bytes in base64.
    const fn binary_code(self) -> &'static str {
        match self {
            Self::Stdout | Self::Stderr => "b",
            Self::Stdin => "B",
        }
    }
}

fn text_of(Size { width, height }: Size) -> String {
    format!("{width}x{height}")
}
