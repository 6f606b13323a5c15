//! A line of the access log as an object of JSON.
//!
//! The names are those of OpenTelemetry's semantic conventions, and those of the Elastic Common
//! Schema (ECS) for what these do not have. An unknown field is left out.

use std::{
    fmt::{self, Display, Write},
    time::SystemTime,
};

use httpdate::HttpDate;

use super::Entry;
use crate::negotiate::name_and_version;

/// Writes the object, without the end of the line.
pub(super) fn write(entry: &Entry<'_>, line: &mut String) -> fmt::Result {
    let measured = &entry.measured;
    let mut object = Object {
        line,
        is_empty: true,
    };
    object.literal("timestamp", Time(entry.at))?;
    if let Some(peer) = entry.peer {
        object.literal("client.address", peer.ip().to_canonical())?;
    }
    object.text("http.request.method", Some(entry.method))?;
    object.text("url.original", Some(entry.target))?;
    object.literal("url.scheme", if entry.is_secure { "https" } else { "http" })?;
    let (name, version) = name_and_version(entry.protocol);
    object.literal("network.protocol.name", name)?;
    object.literal("network.protocol.version", version)?;
    object.number("spdy.stream.id", entry.stream)?;
    object.number("http.response.status_code", Some(entry.status()))?;
    object.number("http.request.body.size", Some(measured.received))?;
    object.number("http.response.body.size", Some(measured.sent))?;
    let seconds = measured.duration.as_secs_f64();
    object.number(
        "http.server.request.duration",
        Some(format!("{seconds:.6}")),
    )?;
    object.text("http.request.referrer", entry.referer)?;
    object.text("user_agent.original", entry.agent)?;
    object.text("http.request.id", entry.id.map(|id| id.as_str().as_bytes()))?;
    object.text("end", measured.end.name().map(str::as_bytes))?;
    object.line.write_char('}')
}

/// An object that is being written.
struct Object<'a> {
    line: &'a mut String,
    is_empty: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> fmt::Result {
        let before = if self.is_empty { '{' } else { ',' };
        self.is_empty = false;
        write!(self.line, "{before}\"{name}\":")
    }

    fn number(&mut self, name: &str, number: Option<impl Display>) -> fmt::Result {
        let Some(number) = number else { return Ok(()) };
        self.name(name)?;
        write!(self.line, "{number}")
    }

    /// Writes a text of ours, which has no character to escape.
    fn literal(&mut self, name: &str, text: impl Display) -> fmt::Result {
        self.name(name)?;
        write!(self.line, "\"{text}\"")
    }

    /// Writes a text of a client. What is no UTF-8 becomes U+FFFD.
    fn text(&mut self, name: &str, text: Option<&[u8]>) -> fmt::Result {
        let Some(text) = text else { return Ok(()) };
        self.name(name)?;
        self.line.write_char('"')?;
        for letter in String::from_utf8_lossy(text).chars() {
            match letter {
                '"' | '\\' => write!(self.line, "\\{letter}")?,
                // Some readers take the last two for ends of lines.
                '\0'..' ' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    write!(self.line, "\\u{:04x}", u32::from(letter))?;
                }
                _ => self.line.write_char(letter)?,
            }
        }
        self.line.write_char('"')
    }
}

/// A time in the form of RFC 3339: `1994-11-06T08:49:37.000012Z`.
struct Time(SystemTime);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = HttpDate::from(self.0).to_string();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        let month = MONTHS.iter().position(|name| *name == month);
        let month = month.map_or(0, |place| place + 1);
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH);
        let micros = since.map_or(0, |it| it.subsec_micros());
        write!(f, "{year}-{month:02}-{day}T{}.{micros:06}Z", &date[17..25])
    }
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::entry::tests::{everything_known, nothing_known},
        *,
    };
    use crate::{config::AccessLogFormat, request_id::RequestId};

    fn read(entry: &Entry<'_>) -> Value {
        let line = entry.line(AccessLogFormat::Json);
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn every_field_has_its_name() {
        let id = RequestId::checked("id-1").unwrap();
        let expected = json!({
            "timestamp": "1994-11-06T08:49:37.000012Z",
            "client.address": "192.0.2.1",
            "http.request.method": "GET",
            "url.original": "/b?c",
            "url.scheme": "https",
            "network.protocol.name": "spdy",
            "network.protocol.version": "3.1",
            "spdy.stream.id": 7,
            "http.response.status_code": 200,
            "http.request.body.size": 3,
            "http.response.body.size": 100,
            "http.server.request.duration": 0.0015,
            "http.request.referrer": "http://a/",
            "user_agent.original": "say \"hi\"\\ \u{fffd}",
            "http.request.id": "id-1",
            "end": "cut",
        });
        assert_eq!(read(&everything_known(&id)), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let expected = json!({
            "timestamp": "1970-01-01T00:00:00.000000Z",
            "http.request.method": "OPTIONS",
            "url.original": "*",
            "url.scheme": "http",
            "network.protocol.name": "http",
            "network.protocol.version": "1.1",
            "http.response.status_code": 499,
            "http.request.body.size": 0,
            "http.response.body.size": 0,
            "http.server.request.duration": 0.0,
        });
        assert_eq!(read(&nothing_known()), expected);
    }

    #[test]
    fn no_text_of_a_client_ends_its_string_or_the_line() {
        let all: String = ('\0'..='\u{2030}').chain(['\u{10ffff}']).collect();
        let entry = Entry {
            agent: Some(all.as_bytes()),
            ..nothing_known()
        };
        assert_eq!(read(&entry)["user_agent.original"], all);
        let line = entry.line(AccessLogFormat::Json);
        let is_control = |it: char| it.is_control() && it != '\n';
        assert!(
            !line.contains(is_control) && !line.contains('\u{2028}'),
            "{line:?}"
        );
    }
}
