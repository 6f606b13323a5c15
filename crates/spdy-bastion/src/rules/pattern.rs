//! Patterns with `*` for any text, and `?` for one character.

use serde::{Deserialize, Deserializer, de};

/// One or more patterns, of which one has to match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patterns(Vec<String>);

impl Patterns {
    pub(super) fn match_text(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| is_match(pattern, text))
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a pattern, or a list of patterns")]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        let patterns = match Form::deserialize(from)? {
            Form::One(pattern) => vec![pattern],
            Form::Many(patterns) => patterns,
        };
        if patterns.is_empty() || patterns.iter().any(String::is_empty) {
            return Err(de::Error::custom("pattern is empty"));
        }
        Ok(Self(patterns))
    }
}

/// Returns whether a pattern matches all of a text. At a mismatch the last `*` takes one character
/// more, so the time is at most the product of both lengths.
fn is_match(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut place) = (0, 0);
    // The place behind the last `*`, and where the text went on after it.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                star = Some((at, place));
            }
            Some(char) if *char == '?' || *char == text[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((after, taken)) = star else {
                    return false;
                };
                (at, place) = (after, taken + 1);
                star = Some((after, taken + 1));
            }
        }
    }
    pattern[at..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*b*c", "a1b2b3c"),
            ("*-?", "db-1"),
            ("**", "x"),
            ("a?c", "aüc"),
            ("system:serviceaccount:*:ci", "system:serviceaccount:a:ci"),
        ] {
            assert!(is_match(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", ""),
            ("a", "A"),
            ("a*", "ba"),
            ("?", ""),
            ("?", "ab"),
            ("a*b", "abc"),
            ("*aab", "aaa"),
        ] {
            assert!(!is_match(pattern, text), "{pattern} {text}");
        }
        let (pattern, text) = ("*a".repeat(500), "a".repeat(10_000) + "b");
        assert!(!is_match(&pattern, &text));
    }
}
