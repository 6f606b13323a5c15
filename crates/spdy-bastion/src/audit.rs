//! Audit lines: one JSON object in a line for each start, each end, and each denied request.
//!
//! Everything outside of printable ASCII is escaped, so nothing that a client or a command has
//! chosen can begin a line, or control a terminal that shows the file.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::{Error, clock::rfc3339};

/// Where audit lines go. Clones write to the same file.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Mutex<File>>);

struct File {
    to: Box<dyn Write + Send>,
    /// Whether the last line was not written to its end, because the disk was full.
    is_torn: bool,
}

impl File {
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_torn {
            // The next line is a line of its own.
            self.to.write_all(b"\n")?;
        }
        self.is_torn = true;
        self.to.write_all(line.as_bytes())?;
        self.to.flush()?;
        self.is_torn = false;
        Ok(())
    }
}

/// The fields of a line.
pub(crate) type Line = Map<String, Value>;

impl Audit {
    /// Opens the file, of which only the owner can read a new one, or standard output.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let to: Box<dyn Write + Send> = match path {
            Some(path) => Box::new(append(path).map_err(|error| {
                Error::because(format!("cannot open {}", path.display()), error)
            })?),
            None => Box::new(io::stdout()),
        };
        let is_torn = false;
        Ok(Self(Arc::new(Mutex::new(File { to, is_torn }))))
    }

    /// Writes a line. Returns when the system has it. There is no limit for that: a session waits
    /// for its line, and a disk or a pipe that stands still holds up all new sessions.
    pub(crate) async fn write(&self, event: &str, fields: Line) -> io::Result<()> {
        let text = line(SystemTime::now(), event, fields);
        let to = Arc::clone(&self.0);
        let written = spawn_blocking(move || {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            to.write(&text)
        });
        written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Writes a line. If that fails, the log has the error: what the line is about cannot be
    /// undone.
    pub(crate) async fn note(&self, event: &str, fields: Line) {
        if let Err(error) = self.write(event, fields).await {
            tracing::error!(%error, event, "audit line cannot be written");
        }
    }
}

fn append(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

/// Returns a line with its end.
fn line(time: SystemTime, event: &str, fields: Line) -> String {
    let mut all = Line::new();
    all.insert("time".into(), rfc3339(time).into());
    all.insert("event".into(), event.into());
    all.extend(fields);
    let mut text = printable(&Value::Object(all).to_string());
    text.push('\n');
    text
}

/// Escapes everything in JSON that is not printable ASCII. Outside of strings everything is.
pub(crate) fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        if matches!(char, ' '..='~') {
            text.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// Cuts a text that a user has chosen, and says so.
pub(crate) fn shortened(text: &str) -> String {
    cut(text, LONGEST)
}

/// Cuts a text behind `longest` bytes, and says so.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut end = longest;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}[{} bytes]", &text[..end], text.len())
}

/// The longest text of a client in a line, in bytes.
pub(crate) const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn nothing_in_a_line_controls_a_terminal() {
        let evil = "a\n{\"event\":\"end\"}\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\"\\😀\0";
        let mut fields = Line::new();
        fields.insert("command".into(), evil.into());
        let text = line(UNIX_EPOCH, "start", fields);
        let (inner, end) = text.split_at(text.len() - 1);
        assert_eq!(end, "\n");
        assert!(
            inner.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{inner}"
        );
        let read: Value = serde_json::from_str(inner).unwrap();
        assert_eq!(read["command"], evil);
        assert_eq!(
            (&read["event"], &read["time"]),
            (&"start".into(), &"1970-01-01T00:00:00.000Z".into())
        );
    }

    /// A disk with place for a number of bytes.
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let length = bytes.len().min(disk.1 - disk.0.len());
            disk.0.extend_from_slice(&bytes[..length]);
            match length {
                0 => Err(io::ErrorKind::StorageFull.into()),
                length => Ok(length),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_does_not_spoil_the_next_one() {
        let disk = Arc::new(Mutex::new((Vec::new(), 12)));
        let to = Box::new(Disk(Arc::clone(&disk)));
        let mut file = File { to, is_torn: false };
        file.write("{\"a\":1}\n").unwrap();
        for _ in 0..2 {
            assert!(file.write("{\"b\":2}\n").is_err());
        }
        disk.lock().unwrap().1 = 1000;
        file.write("{\"c\":3}\n").unwrap();
        file.write("{\"d\":4}\n").unwrap();
        let text = String::from_utf8(disk.lock().unwrap().0.clone()).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"b\"\n{\"c\":3}\n{\"d\":4}\n");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(shortened("a"), "a");
        let long = "ü".repeat(LONGEST);
        let cut = shortened(&long);
        assert!(cut.ends_with("[8192 bytes]") && cut.len() < LONGEST + 20);
        let cut = shortened(&format!("a{long}"));
        assert!(cut.len() < LONGEST + 20);
    }
}
