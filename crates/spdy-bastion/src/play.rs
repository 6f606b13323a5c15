//! Plays a recording in the terminal.

mod screen;

use std::{
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
            let mut stderr = io::stderr().lock();
            outputs(file, |output| {
                let to: &mut dyn Write = match output.is_stderr {
                    true => &mut stderr,
                    false => &mut stdout,
                };
                Ok(to.write_all(&output.bytes)?)
            })
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

/// Shows the outputs of a recording. `pause` waits for a number of seconds.
fn show(from: impl BufRead, mut to: impl Write, pause: impl Fn(f64)) -> Result<(), Failure> {
    let mut time = 0.0;
    let mut screen = Screen::default();
    outputs(from, |output| {
        if output.at > time {
            pause(output.at - time);
            time = output.at;
        }
        // What text there is among other bytes is shown, so a command cannot hide it there.
        let text = String::from_utf8_lossy(&output.bytes);
        to.write_all(screen.show(&text).as_bytes())?;
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

/// Passes the outputs of a recording to a function.
fn outputs(
    mut from: impl BufRead,
    mut each: impl FnMut(Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let head = line(&mut from)?.ok_or("file is empty")?;
    let head: Value = serde_json::from_str(&head).map_err(|_| "this is no asciicast")?;
    if head["version"] != 2 {
        return Err("this is no asciicast of version 2".into());
    }
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
        let mut raw = Vec::new();
        let gathered = outputs(text.as_bytes(), |output| {
            raw.push((output.bytes, output.is_stderr));
            Ok(())
        });
        assert!(gathered.is_ok());
        let expected: [(&[u8], bool); 3] = [(b"\xffhi\xff", false), (b"no", true), (b".", false)];
        let expected = expected.map(|(bytes, is_stderr)| (bytes.to_vec(), is_stderr));
        assert_eq!(raw, expected);
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
