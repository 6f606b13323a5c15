//! The part of a recorded output that a terminal is shown.
//!
//! A command chooses what is recorded, and who plays the recording is another user. Text,
//! colours and movements of the cursor pass. What makes a terminal do more does not: answers that a
//! shell would read as typed, reports of the mouse, the clipboard, the title, files and printers.

/// Removes what does more than show something. It remembers a sequence that has begun, because it
/// can be split between events.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After ESC, with the intermediate characters.
    Escape(String),
    /// After CSI, with its parameters and intermediate characters.
    Control(String),
    /// In a string for the terminal, up to its end. The flag is whether ESC came last.
    Ignored(bool),
}

impl Screen {
    /// Returns what is shown of an output.
    pub(super) fn show(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for char in text.chars() {
            self.take(char, &mut shown);
        }
        shown
    }

    fn take(&mut self, char: char, shown: &mut String) {
        let state = std::mem::take(&mut self.state);
        self.state = match (state, char) {
            // These end every sequence.
            (_, CANCEL | SUBSTITUTE) => State::Text,
            (State::Ignored(_), BELL | STRING_END) | (State::Ignored(true), '\\') => State::Text,
            // No string goes on in the next line. Otherwise one without an end would hide the rest.
            (State::Ignored(_), '\n') => {
                shown.push(char);
                State::Text
            }
            (State::Ignored(_), _) => State::Ignored(char == ESCAPE),
            (_, ESCAPE) => State::Escape(String::new()),
            (_, CONTROL) => State::Control(String::new()),
            (_, STRING | START | DEVICE | PRIVACY | PROGRAM) => State::Ignored(false),
            (_, '\u{80}'..='\u{9f}') => State::Text,
            (State::Text, char) => {
                if is_text(char) {
                    shown.push(char);
                }
                State::Text
            }
            // A terminal obeys these within a sequence, which then goes on.
            (state, char) if char.is_control() => {
                if is_text(char) {
                    shown.push(char);
                }
                state
            }
            (State::Escape(between), '[') if between.is_empty() => State::Control(between),
            (State::Escape(between), 'P' | 'X' | ']' | '^' | '_') if between.is_empty() => {
                State::Ignored(false)
            }
            (State::Escape(between), ' '..='/') => State::Escape(longer(between, char)),
            (State::Escape(between), char) => {
                if is_shown_escape(&between, char) {
                    shown.extend([ESCAPE]);
                    shown.push_str(&between);
                    shown.push(char);
                }
                State::Text
            }
            (State::Control(between), ' '..='?') => State::Control(longer(between, char)),
            (State::Control(between), char) => {
                if is_shown_control(&between, char) {
                    shown.extend([ESCAPE, '[']);
                    shown.push_str(&between);
                    shown.push(char);
                }
                State::Text
            }
        };
    }
}

/// Adds to a sequence. One that is too long has a character that no sequence has, so it is removed.
fn longer(mut between: String, char: char) -> String {
    between.push(if between.len() < LONGEST {
        char
    } else {
        TOO_LONG
    });
    between.truncate(LONGEST + 1);
    between
}

fn is_text(char: char) -> bool {
    !char.is_control() || matches!(char, '\u{8}'..='\u{f}' | BELL)
}

/// Returns whether a sequence without parameters only shows something: it saves and restores the
/// cursor, moves it, sets tabs, or chooses a set of characters.
fn is_shown_escape(between: &str, last: char) -> bool {
    match between {
        "" => matches!(last, '7' | '8' | 'D' | 'E' | 'H' | 'M' | '=' | '>'),
        "(" | ")" | "*" | "+" => last.is_ascii_alphanumeric(),
        _ => false,
    }
}

/// Returns whether a sequence with parameters only shows something: it moves the cursor, erases,
/// inserts, deletes, scrolls, sets colours, or sets one of some modes.
fn is_shown_control(between: &str, last: char) -> bool {
    let is_plain = between
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'));
    match last {
        'A'..='M'
        | 'P'
        | 'S'
        | 'T'
        | 'X'
        | 'Z'
        | '@'
        | '`'
        | 'a'
        | 'b'
        | 'd'..='g'
        | 'm'
        | 'r'
        | 's'
        | 'u' => is_plain,
        'h' | 'l' => match between.strip_prefix('?') {
            Some(modes) => modes.split(';').all(|mode| PRIVATE_MODES.contains(&mode)),
            None => between.split(';').all(|mode| MODES.contains(&mode)),
        },
        _ => false,
    }
}

/// Insertion, and the start of a new line.
const MODES: [&str; 2] = ["4", "20"];

/// Keys of the cursor, colours, origin, wrapping, the cursor, and the second screen.
const PRIVATE_MODES: [&str; 9] = ["1", "5", "6", "7", "12", "25", "47", "1047", "1049"];

/// What a terminal needs after a recording that has broken off: characters, modes and the first
/// screen.
pub(super) const RESET: &str =
    "\u{1b}(B\u{f}\u{1b}[?1049l\u{1b}[?1;5;6l\u{1b}[?7;25h\u{1b}[4;20l\u{1b}[r\u{1b}[m\u{1b}>";

/// The longest sequence that is shown, without its first and its last character.
const LONGEST: usize = 64;

const TOO_LONG: char = '!';

const BELL: char = '\u{7}';
const CANCEL: char = '\u{18}';
const SUBSTITUTE: char = '\u{1a}';
const ESCAPE: char = '\u{1b}';
const DEVICE: char = '\u{90}';
const START: char = '\u{98}';
const CONTROL: char = '\u{9b}';
const STRING_END: char = '\u{9c}';
const STRING: char = '\u{9d}';
const PRIVACY: char = '\u{9e}';
const PROGRAM: char = '\u{9f}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_colours_and_movements_are_shown() {
        for text in [
            "a\tb\r\nä\u{8}\u{7}",
            "\u{1b}[1;38:2:1:2:3ma\u{1b}[m",
            "\u{1b}[2J\u{1b}[H\u{1b}[10;20H\u{1b}[K",
            "\u{1b}[?1049h\u{1b}[?25l\u{1b}[1;24r\u{1b}7\u{1b}8\u{1b}M",
            "\u{1b}(0lqk\u{1b}(B",
        ] {
            assert_eq!(Screen::default().show(text), text, "{text:?}");
        }
        assert_eq!(Screen::default().show("\u{9b}1mä"), "\u{1b}[1mä");
    }

    #[test]
    fn a_string_without_an_end_does_not_hide_the_next_line() {
        for start in ["\u{1b}]0;", "\u{1b}P", "\u{9d}", "\u{1b}^"] {
            let text = format!("{start}title\nshown\u{1b}\\.");
            assert_eq!(Screen::default().show(&text), "\nshown.");
        }
    }

    #[test]
    fn what_does_more_is_removed() {
        for sequence in [
            "\u{5}",    // asks for an answer
            "\u{1b}[c", // asks for the kind of terminal
            "\u{1b}[>0c",
            "\u{1b}[6n",   // asks for the place of the cursor
            "\u{1b}[21t",  // asks for the title
            "\u{1b}[?1$p", // asks for a mode
            "\u{1b}Z",
            "\u{1b}[?1000h",    // reports the mouse
            "\u{1b}[?25;1004h", // reports the focus
            "\u{1b}[5i",        // prints
            "\u{1b}c",          // resets
            "\u{1b}#8",
            "\u{1b}[>4;1m", // changes keys
            "\u{1b}[!p",
            "\u{1b}]0;title\u{7}",
            "\u{1b}]52;c;cm0gLXJm\u{1b}\\", // sets the clipboard
            "\u{1b}]8;;http://a\u{9c}",
            "\u{1b}P$qm\u{1b}\\",
            "\u{1b}_Gi=1\u{1b}\\",
            "\u{1b}^ab\u{1b}\\",
            "\u{1b}Xa\u{1b}\\",
            "\u{9d}0;title\u{7}",
            "\u{90}q\u{9c}",
            "\u{9b}6n",
            "\u{85}",
            "\u{7f}",
            "\u{1b}]0;a\u{18}",
        ] {
            let text = format!("a{sequence}b");
            assert_eq!(Screen::default().show(&text), "ab", "{sequence:?}");
            // It can be split anywhere.
            let mut screen = Screen::default();
            let pieces = text.chars().map(|char| screen.show(&char.to_string()));
            assert_eq!(pieces.collect::<String>(), "ab", "{sequence:?}");
        }
        let long = format!("a\u{1b}[{}mb", "1;".repeat(LONGEST));
        assert_eq!(Screen::default().show(&long), "ab");
        let mut screen = Screen::default();
        screen.show(&format!("\u{1b}[{}", "1".repeat(1 << 20)));
        let State::Control(between) = &screen.state else {
            panic!()
        };
        assert!(between.len() <= LONGEST + 1);
        // A control character within a sequence does not hide it.
        assert_eq!(Screen::default().show("\u{1b}[6\nnb"), "\nb");
        assert_eq!(Screen::default().show("\u{1b}[1\u{1b}[6nb"), "b");
    }

    #[test]
    fn the_reset_would_be_shown() {
        assert_eq!(Screen::default().show(RESET), RESET);
    }
}
