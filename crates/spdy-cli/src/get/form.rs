//! `--form`: bodies of the type multipart/form-data (RFC 7578).

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
};

use http::HeaderValue;

use super::upload::{Part, memory};
use crate::{
    failure::{Exit, Failure},
    whole::{Memory, plain},
};

/// Returns the content type and the parts of a body with these fields.
pub(super) fn encode(fields: &[String]) -> Result<(HeaderValue, Vec<Part>), Failure> {
    let boundary = format!("spdy-{:016x}{:016x}", random(), random());
    let mut parts = Vec::new();
    let mut memory = memory();
    for field in fields {
        let (head, content) = part(field, &mut memory)?;
        let head = format!("--{boundary}\r\n{head}\r\n\r\n");
        parts.extend([text(head), content, text("\r\n".into())]);
    }
    parts.push(text(format!("--{boundary}--\r\n")));
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let content_type = HeaderValue::from_str(&content_type);
    Ok((content_type.expect("it is ASCII"), parts))
}

/// Returns the header fields and the content of a field.
fn part(field: &str, memory: &mut Memory) -> Result<(String, Part), Failure> {
    let (name, value) = field.split_once('=').ok_or_else(|| {
        let message = format!("--form {field} must have the form NAME=VALUE");
        Failure::new(Exit::Usage, message)
    })?;
    let sign = value.chars().next().filter(|sign| "@<".contains(*sign));
    let (value, [kind, filename]) = read(value.strip_prefix(sign.as_slice()).unwrap_or(value));
    let path = Path::new(&value);
    let (content, filename, kind) = match sign {
        Some('@') => {
            let own = path.file_name().unwrap_or_default();
            let filename = filename.unwrap_or_else(|| own.to_string_lossy().into_owned());
            let kind = kind.unwrap_or_else(|| "application/octet-stream".into());
            (Part::at(path.into()), Some(filename), Some(kind))
        }
        Some(_) => {
            let mut bytes = Vec::new();
            memory.read(path, &mut bytes, plain)?;
            (Part::Bytes(bytes.into()), filename, kind)
        }
        None => (text(value), filename, kind),
    };
    let mut head = format!("content-disposition: form-data; name=\"{}\"", escaped(name));
    if let Some(filename) = filename {
        head += &format!("; filename=\"{}\"", escaped(&filename));
    }
    if let Some(kind) = kind {
        if HeaderValue::from_str(&kind).is_err() {
            let message = format!("--form {field} must not have control characters in its type");
            return Err(Failure::new(Exit::Usage, message));
        }
        head += &format!("\r\ncontent-type: {kind}");
    }
    Ok((head, content))
}

/// Reads a value, and the parameters behind it in any order. Returns those of [`PARAMETERS`].
fn read(value: &str) -> (String, [Option<String>; 2]) {
    let (content, mut rest) = word(value);
    let mut found = [None, None];
    while let Some(place) = PARAMETERS.iter().position(|name| rest.starts_with(name)) {
        let (value, after) = word(&rest[PARAMETERS[place].len()..]);
        found[place] = Some(value);
        rest = after;
    }
    (content, found)
}

/// Splits a word from the parameters that follow it. As in curl, a word in quotes can have anything
/// in it.
fn word(text: &str) -> (String, &str) {
    let is_end = |rest: &str| rest.is_empty() || PARAMETERS.iter().any(|it| rest.starts_with(it));
    let inside = text.strip_prefix('"').and_then(quoted);
    if let Some((word, rest)) = inside.filter(|(_, rest)| is_end(rest)) {
        return (word, rest);
    }
    let starts = PARAMETERS.iter().filter_map(|name| text.find(name));
    let (word, rest) = text.split_at(starts.min().unwrap_or(text.len()));
    (word.to_owned(), rest)
}

/// Splits what is in quotes from what follows them. A backslash makes a quote or another backslash
/// a part of it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((word, &text[at + 1..])),
            '\\' => {
                let escaped = letters.next_if(|(_, next)| "\"\\".contains(*next));
                word.push(escaped.map_or('\\', |(_, next)| next));
            }
            letter => word.push(letter),
        }
    }
    None
}

const PARAMETERS: [&str; 2] = [";type=", ";filename="];

/// Escapes a name as browsers do.
fn escaped(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn text(text: String) -> Part {
    Part::Bytes(text.into())
}

/// A number that no body contains by chance. The keys of a [`RandomState`] are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_quotes_can_have_anything_in_it() {
        for (value, content, kind, filename) in [
            ("a", "a", None, None),
            ("a; b", "a; b", None, None),
            ("a;type=t;filename=f", "a", Some("t"), Some("f")),
            ("a;filename=f;type=t; x=y", "a", Some("t; x=y"), Some("f")),
            ("\"a;type=t\"", "a;type=t", None, None),
            (
                "\"a;b\";filename=\"f;type=\\\"\";type=t",
                "a;b",
                Some("t"),
                Some("f;type=\""),
            ),
            ("\"a\\\\b\\c\"", "a\\b\\c", None, None),
            // These are not in quotes.
            ("\"a", "\"a", None, None),
            ("\"a\", \"b\"", "\"a\", \"b\"", None, None),
            ("a \"b\"", "a \"b\"", None, None),
            ("", "", None, None),
        ] {
            let parameters = [kind, filename].map(|it: Option<&str>| it.map(str::to_owned));
            assert_eq!(read(value), (content.to_owned(), parameters), "{value}");
        }
    }
}
