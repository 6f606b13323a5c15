//! Plays a recording in the terminal.

mod screen;

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    thread::sleep,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use self::screen::{RESET, Screen};
use super::{Failure, flags::Play};

/// Plays a file on standard output.
pub(crate) fn run(play: &Play) -> Result<(), Failure> {
    let name = play.file.display();
    let file = File::open(&play.file).map_err(|error| format!("cannot open {name}: {error}"))?;
    let file = BufReader::new(file);
    let mut stdout = io::stdout().lock();
    let played = match (play.raw, stdout.is_terminal()) {
        // A command has chosen the bytes.
        (true, true) => return Err("--raw writes to a file or a pipe, not to a terminal".into()),
        (true, false) => {
            let stderr = io::stderr();
            write_raw(file, stdout, stderr.lock(), stderr.is_terminal())
        }
        (false, is_terminal) => {
            let played = show(file, &mut stdout, |seconds| {
                let seconds = seconds.min(play.idle) / play.speed;
                if let Ok(time) = Duration::try_from_secs_f64(seconds) {
                    sleep(time);
                }
            });
            if is_terminal {
                // A recording that is cut, or whose command was killed, leaves modes set.
                stdout.write_all(RESET.as_bytes())?;
            }
            played
        }
    };
    played.map_err(|error| format!("{name}: {error}").into())
}

/// Writes the outputs of a recording as they are, but the errors as `show` does if they go to a
/// terminal.
fn write_raw(
    mut from: impl BufRead,
    mut stdout: impl Write,
    mut stderr: impl Write,
    is_terminal: bool,
) -> Result<(), Failure> {
    if head(&mut from)?["exact"] != true {
        return Err("it does not have every byte, because its session had a terminal".into());
    }
    let mut screen = Screen::default();
    outputs(from, |output| {
        let to: &mut dyn Write = match output.is_stderr {
            true => &mut stderr,
            false => &mut stdout,
        };
        match output.is_stderr && is_terminal {
            true => to.write_all(screen.show(&output.text()).as_bytes())?,
            false => to.write_all(&output.bytes)?,
        }
        // Otherwise an error would not be seen, and the two would lose their order.
        Ok(to.flush()?)
    })
}

/// Shows the outputs of a recording. `pause` waits for a number of seconds.
fn show(mut from: impl BufRead, mut to: impl Write, pause: impl Fn(f64)) -> Result<(), Failure> {
    head(&mut from)?;
    let mut time = 0.0;
    let (mut of_stdout, mut of_stderr) = (Screen::default(), Screen::default());
    outputs(from, |output| {
        if output.at > time {
            pause(output.at - time);
            time = output.at;
        }
        let screen = match output.is_stderr {
            true => &mut of_stderr,
            false => &mut of_stdout,
        };
        to.write_all(screen.show(&output.text()).as_bytes())?;
        Ok(to.flush()?)
    })
}

/// What a command has written at once.
struct Output {
    /// In seconds since the begin.
    at: f64,
    bytes: Vec<u8>,
    is_stderr: bool,
}

impl Output {
    /// Returns the text, also that among other bytes.
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// Reads the first line.
fn head(from: &mut impl BufRead) -> Result<Value, Failure> {
    let head = line(from)?.ok_or("file is empty")?;
    let head: Value = serde_json::from_str(&head).map_err(|_| "this is no asciicast")?;
    match head["version"] == 2 {
        true => Ok(head),
        false => Err("this is no asciicast of version 2".into()),
    }
}

/// Passes the outputs of a recording, behind its head, to a function.
fn outputs(
    mut from: impl BufRead,
    mut each: impl FnMut(Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut number, mut is_stderr) = (1, false);
    while let Some(text) = line(&mut from)? {
        number += 1;
        if text.trim().is_empty() {
            continue;
        }
        let (at, kind, data) = event(&text).ok_or_else(|| format!("line {number} is no event"))?;
        let bytes = match kind.as_str() {
            "o" => data.into_bytes(),
            "b" => STANDARD
                .decode(data)
                .map_err(|_| format!("line {number} is not in base64"))?,
            "s" => {
                is_stderr = data == "stderr";
                continue;
            }
            _ => continue,
        };
        each(Output {
            at,
            bytes,
            is_stderr,
        })?;
    }
    Ok(())
}

/// Reads the next line. A longer line than any recording has is an error.
fn line(from: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut text = String::new();
    from.take(LONGEST).read_line(&mut text)?;
    match text.len() as u64 {
        0 => Ok(None),
        LONGEST => Err("line is too long".into()),
        _ => Ok(Some(text)),
    }
}

/// Returns the time, the kind and the data of an event.
fn event(text: &str) -> Option<(f64, String, String)> {
    let event: Value = serde_json::from_str(text).ok()?;
    let text = |index: usize| event[index].as_str().map(str::to_owned);
    Some((event[0].as_f64()?, text(1)?, text(2)?))
}

/// The longest line, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn play(text: &str) -> (String, Vec<f64>, Option<String>) {
        let (mut to, pauses) = (Vec::new(), RefCell::default());
        let played = show(text.as_bytes(), &mut to, |seconds| {
            RefCell::<Vec<f64>>::borrow_mut(&pauses).push(seconds);
        });
        let error = played.err().map(|error| error.to_string());
        (String::from_utf8(to).unwrap(), pauses.into_inner(), error)
    }

    #[test]
    fn outputs_are_played_with_their_pauses() {
        let text = "{\"version\":2,\"width\":80,\"height\":24}\n[0.5,\"o\",\"a\\u001b[1m\"]\n\
                    [1.0,\"i\",\"secret\"]\n[1.0,\"r\",\"90x30\"]\n\n[2.5,\"o\",\"b\\n\"]\n\
                    [2.0,\"o\",\"c\"]\n[3.0,\"m\",\"success\"]\n";
        assert_eq!(
            play(text),
            ("a\u{1b}[1mb\nc".to_owned(), vec![0.5, 2.0], None)
        );
    }

    #[test]
    fn text_does_not_hide_among_bytes() {
        let text = "{\"version\":2}\n[0,\"m\",\"bytes that are not text\"]\n[0,\"b\",\"/2hp/w==\"]\n\
                    [0,\"s\",\"stderr\"]\n[0,\"o\",\"no\"]\n[0,\"s\",\"stdout\"]\n[0,\"o\",\".\"]\n";
        assert_eq!(play(text).0, "\u{fffd}hi\u{fffd}no.");
    }

    /// Plays with `--raw`. Returns standard output and standard error.
    fn raw(text: &str, is_terminal: bool) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let written = write_raw(text.as_bytes(), &mut stdout, &mut stderr, is_terminal);
        written.map_err(|error| error.to_string())?;
        Ok((stdout, stderr))
    }

    #[test]
    fn every_byte_is_written_and_none_that_a_terminal_obeys_to_a_terminal() {
        let text = "{\"version\":2,\"exact\":true}\n[0,\"b\",\"/2hp/w==\"]\n[0,\"s\",\"stderr\"]\n\
                    [0,\"o\",\"no\\u001b]52;c;eA==\\u0007.\"]\n[0,\"s\",\"stdout\"]\n[0,\"o\",\"\\u001b]\"]\n";
        let stdout = b"\xffhi\xff\x1b]".to_vec();
        let stderr = b"no\x1b]52;c;eA==\x07.".to_vec();
        assert_eq!(raw(text, false), Ok((stdout.clone(), stderr)));
        assert_eq!(raw(text, true), Ok((stdout, b"no.".to_vec())));
        let of_terminal = text.replace(",\"exact\":true", "");
        assert!(raw(&of_terminal, false).unwrap_err().contains("terminal"));
    }

    /// Buffers until it is flushed, which fails.
    struct Full;

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn an_output_that_cannot_be_written_is_an_error() {
        let text = "{\"version\":2,\"exact\":true}\n[0,\"o\",\"a\"]\n";
        assert!(write_raw(text.as_bytes(), Full, Full, false).is_err());
    }

    #[test]
    fn what_is_no_recording_is_an_error() {
        for (text, expected) in [
            ("", "file is empty"),
            ("x\n", "this is no asciicast"),
            ("{\"version\":1}\n", "this is no asciicast of version 2"),
            ("{\"version\":2}\n[1]\n", "line 2 is no event"),
            ("{\"version\":2}\n[1,\"o\"", "line 2 is no event"),
            (
                "{\"version\":2}\n[1,\"b\",\"a\"]",
                "line 2 is not in base64",
            ),
        ] {
            assert_eq!(play(text).2.as_deref(), Some(expected), "{text}");
        }
        let long = format!("{{\"version\":2}}\n{}", " ".repeat(LONGEST as usize + 1));
        assert_eq!(play(&long).2.as_deref(), Some("line is too long"));
    }
}
