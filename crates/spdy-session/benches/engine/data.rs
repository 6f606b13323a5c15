//! The data that is sent. It is the same for both protocols, except for the names of the parts of a
//! request line.

use bytes::Bytes;
use spdy_session::HeaderBlock;

/// The length of the pieces of a body, in bytes.
pub(crate) const PIECE: usize = 16 * 1024;

/// The body of a response.
pub(crate) static BODY: [u8; 100] = [b'a'; 100];

static ZEROS: [u8; PIECE] = [0; PIECE];

pub(crate) fn piece() -> Bytes {
    Bytes::from_static(&ZEROS)
}

/// The fields of a request that are the same in both protocols.
pub(crate) const REQUEST: [(&str, &str); 5] = [
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-encoding", "gzip,deflate,sdch"),
    ("accept-language", "en-US,en;q=0.8"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/38.0.2125.104 Safari/537.36",
    ),
    ("referer", "https://www.example.com/"),
];

pub(crate) const RESPONSE: [(&str, &str); 4] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "100"),
    ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
    ("server", "spdy-server"),
];

/// A request of ten fields.
pub(crate) fn request() -> HeaderBlock {
    block(
        &[
            (":method", "GET"),
            (":path", "/assets/application.js"),
            (":version", "HTTP/1.1"),
            (":host", "www.example.com"),
            (":scheme", "https"),
        ],
        &REQUEST,
    )
}

/// A response of six fields.
pub(crate) fn response() -> HeaderBlock {
    block(
        &[(":status", "200 OK"), (":version", "HTTP/1.1")],
        &RESPONSE,
    )
}

fn block(line: &[(&str, &str)], fields: &[(&str, &str)]) -> HeaderBlock {
    HeaderBlock::from_pairs(line.iter().chain(fields).copied()).expect("the fields are sound")
}
