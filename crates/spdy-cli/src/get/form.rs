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
    let (value, [kind, filename]) = parameters(value);
    let (content, filename, kind) = if let Some(path) = value.strip_prefix('@') {
        let own = Path::new(path).file_name().unwrap_or_default();
        let filename = filename.map_or_else(|| own.to_string_lossy().into_owned(), str::to_owned);
        let kind = kind.unwrap_or("application/octet-stream");
        (Part::at(path.into()), Some(filename), Some(kind))
    } else if let Some(path) = value.strip_prefix('<') {
        let mut bytes = Vec::new();
        memory.read(Path::new(path), &mut bytes, plain)?;
        let content = Part::Bytes(bytes.into());
        (content, filename.map(str::to_owned), kind)
    } else {
        (text(value.to_owned()), filename.map(str::to_owned), kind)
    };
    let mut head = format!("content-disposition: form-data; name=\"{}\"", escaped(name));
    if let Some(filename) = filename {
        head += &format!("; filename=\"{}\"", escaped(&filename));
    }
    if let Some(kind) = kind {
        if HeaderValue::from_str(kind).is_err() {
            let message = format!("--form {field} must not have control characters in its type");
            return Err(Failure::new(Exit::Usage, message));
        }
        head += &format!("\r\ncontent-type: {kind}");
    }
    Ok((head, content))
}

/// Splits the parameters from the end of a value, in any order. Returns those of [`PARAMETERS`].
fn parameters(mut value: &str) -> (&str, [Option<&str>; 2]) {
    let mut found = [None; 2];
    // A parameter has what is behind it until the next one, which is split first.
    while let Some((start, place)) = last_parameter(value) {
        let after = &value[start + PARAMETERS[place].len()..];
        found[place] = Some(after);
        value = &value[..start];
    }
    (value, found)
}

/// Returns where the last parameter begins, and which one it is.
fn last_parameter(value: &str) -> Option<(usize, usize)> {
    let starts = PARAMETERS.map(|name| value.rfind(name));
    let found = starts.into_iter().enumerate();
    found
        .filter_map(|(place, start)| Some((start?, place)))
        .max()
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
