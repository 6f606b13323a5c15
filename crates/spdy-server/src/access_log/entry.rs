//! What a line of the access log says, and its combined format:
//!
//! ```text
//! PEER - - [TIME] "METHOD TARGET HTTP/1.1" STATUS BYTES "REFERER" "USER-AGENT" \
//!     PROTOCOL STREAM SECONDS RECEIVED END
//! ```
//!
//! These are the fields of many servers, followed by those of SPDY, and by the id of the request if
//! requests have one. END is a name of [`End`](crate::observe::End). An unknown field is `-`.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    time::SystemTime,
};

use httpdate::HttpDate;

use super::json;
use crate::{
    config::AccessLogFormat, negotiate::Protocol, observe::Measured, request_id::RequestId,
};

/// The fields of a line.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) is_secure: bool,
    pub(crate) at: SystemTime,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) protocol: Protocol,
    pub(crate) stream: Option<u32>,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) agent: Option<&'a [u8]>,
    pub(crate) id: Option<&'a RequestId>,
    pub(crate) measured: Measured,
}

impl Entry<'_> {
    /// Returns the line with its end. What clients have sent cannot end a field of it.
    pub(super) fn line(&self, format: AccessLogFormat) -> String {
        let mut line = String::with_capacity(512);
        let written = match format {
            AccessLogFormat::Combined => self.write_combined(&mut line),
            AccessLogFormat::Json => json::write(self, &mut line),
        };
        written.expect("a String takes any text");
        line.push('\n');
        line
    }

    /// Returns the status, or the one that other servers also log for a client that has left.
    pub(super) fn status(&self) -> u16 {
        self.measured.status.map_or(LEFT, |it| it.as_u16())
    }

    fn write_combined(&self, line: &mut String) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(line, "{}", peer.ip().to_canonical())?,
            None => line.push('-'),
        }
        write!(line, " - - [{}] \"", Time(self.at))?;
        escape(line, self.method);
        line.push(' ');
        escape(line, self.target);
        let measured = &self.measured;
        write!(line, " HTTP/1.1\" {} {} \"", self.status(), measured.sent)?;
        escape(line, self.referer.unwrap_or(b"-"));
        line.push_str("\" \"");
        escape(line, self.agent.unwrap_or(b"-"));
        write!(line, "\" {} ", self.protocol)?;
        match self.stream {
            Some(stream) => write!(line, "{stream}")?,
            None => line.push('-'),
        }
        let seconds = measured.duration.as_secs_f64();
        let end = measured.end.name().unwrap_or("-");
        write!(line, " {seconds:.6} {} {end}", measured.received)?;
        match self.id {
            Some(id) => write!(line, " {id}"),
            None => Ok(()),
        }
    }
}

/// Writes text in a form that cannot end the quotes or the line.
fn escape(line: &mut String, text: &[u8]) {
    for byte in text {
        match byte {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(*byte));
            }
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => write!(line, "\\x{byte:02x}").expect("a String takes any text"),
        }
    }
}

/// A time in the form `06/Nov/1994:08:49:37 +0000`.
struct Time(SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = HttpDate::from(self.0).to_string();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        write!(f, "{day}/{month}/{year}:{} +0000", &date[17..25])
    }
}

/// The status that other servers also log for a client that has left.
const LEFT: u16 = 499;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;
    use spdy_frame::Version;

    use super::*;
    use crate::observe::End;

    /// Returns an entry without any known field.
    pub(crate) fn nothing_known() -> Entry<'static> {
        Entry {
            peer: None,
            is_secure: false,
            at: SystemTime::UNIX_EPOCH,
            method: b"OPTIONS",
            target: b"*",
            protocol: Protocol::Http1,
            stream: None,
            referer: None,
            agent: None,
            id: None,
            measured: Measured {
                status: None,
                received: 0,
                sent: 0,
                end: End::Whole,
                duration: Duration::ZERO,
            },
        }
    }

    /// Returns an entry with all fields.
    pub(crate) fn everything_known(id: &RequestId) -> Entry<'_> {
        Entry {
            peer: Some("[::ffff:192.0.2.1]:80".parse().unwrap()),
            is_secure: true,
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(784_111_777_000_012),
            method: b"GET",
            target: b"/b?c",
            protocol: Protocol::Spdy(Version::V3_1),
            stream: Some(7),
            referer: Some(b"http://a/"),
            agent: Some(b"say \"hi\"\\ \xff"),
            id: Some(id),
            measured: Measured {
                status: Some(StatusCode::OK),
                received: 3,
                sent: 100,
                end: End::Cut,
                duration: Duration::from_micros(1_500),
            },
        }
    }

    #[test]
    fn a_line_is_the_combined_format_and_more() {
        let id = RequestId::checked("id-1").unwrap();
        assert_eq!(
            everything_known(&id).line(AccessLogFormat::Combined),
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /b?c HTTP/1.1\" 200 100 \
             \"http://a/\" \"say \\\"hi\\\"\\\\ \\xff\" SPDY/3.1 7 0.001500 3 cut id-1\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_a_client_that_left_is_499() {
        assert_eq!(
            nothing_known().line(AccessLogFormat::Combined),
            "- - - [01/Jan/1970:00:00:00 +0000] \"OPTIONS * HTTP/1.1\" 499 0 \"-\" \"-\" HTTP/1.1 - 0.000000 0 -\n"
        );
    }
}
