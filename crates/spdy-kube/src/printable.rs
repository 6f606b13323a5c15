//! Text of the other side in messages.

use std::fmt::{self, Display, Write};

/// Shows something in one line: control and format characters are escaped, so that text of the
/// other side neither writes to a terminal nor adds lines to a log.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '"' | '\'' | '\\' => self.0.write_char(char)?,
                _ => write!(self.0, "{}", char.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Printable;

    #[test]
    fn what_would_write_to_a_terminal_is_escaped() {
        for (text, shown) in [
            (
                "it's a \"path\\name\" for käse",
                "it's a \"path\\name\" for käse",
            ),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\0"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
            ("\u{9b}m", "\\u{9b}m"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }
}
