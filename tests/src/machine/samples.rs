//! Ids, frames and header blocks that tests need again and again.

use spdy_frame::{
    HeaderBlock, RstStatus, RstStream, StreamId, Version, WindowIncrement, WindowTarget,
    WindowUpdate,
};

use crate::wire::Received;

/// The versions that have windows.
pub const SINCE_V3: [Version; 2] = [Version::V3, Version::V3_1];

/// A stream id.
///
/// # Panics
///
/// If the number is not a stream id.
#[must_use]
pub fn id(stream: u32) -> StreamId {
    StreamId::new(stream).expect("the number is a stream id")
}

/// RST_STREAM as it was received.
#[must_use]
pub fn reset(stream: u32, status: RstStatus) -> Received {
    Received::RstStream(RstStream {
        stream: id(stream),
        status,
    })
}

/// WINDOW_UPDATE as it was received; stream 0 is the session.
///
/// # Panics
///
/// If it would grant nothing.
#[must_use]
pub fn credit(stream: u32, bytes: u32) -> Received {
    Received::WindowUpdate(WindowUpdate {
        target: WindowTarget::from_field(stream),
        increment: WindowIncrement::new(bytes).expect("credit is not zero"),
    })
}

/// The payload bytes of a stream among frames.
#[must_use]
pub fn payload_of(stream: u32, frames: &[Received]) -> usize {
    frames
        .iter()
        .map(|frame| match frame {
            Received::Data {
                stream: found,
                payload,
                ..
            } if *found == stream => payload.len(),
            _ => 0,
        })
        .sum()
}

/// The requests 1 and 3 of protocol.md §22, "packed": unlike the blocks of
/// [`frames`](crate::frames), the second one cannot be read without the first.
#[must_use]
pub fn packed_requests(version: Version) -> [Vec<u8>; 2] {
    let requests = match version {
        Version::V2 => [
            "800200010100004b0000000100000000000038eadfa251b262606560cb05e6c3fc14066677d71006669020a33e03\
             3b540d03074c2b030b283731b025ea95a482e862601ce7a632b0669494141403000000ffff",
            "800200010100001300000003000000008000a2923100000000ffff",
        ],
        Version::V3 | Version::V3_1 => [
            "800300010100004b0000000100000000000038eae3c6a7c2026525507ab442a45a77d71090a8554122b86c62d407\
             25522bec0996d50a5a90b025ea95a48259ec56c5c04233175cb2669494141403000000ffff",
            "800300010100001300000003000000006000a2831500000000ffff",
        ],
    };
    requests.map(|hex| {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()
    })
}

/// The header block of a GET for https://localhost/.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn request_block(version: Version) -> HeaderBlock {
    let pairs = match version {
        Version::V2 => [
            ("method", "GET"),
            ("url", "/"),
            ("version", "HTTP/1.1"),
            ("host", "localhost"),
            ("scheme", "https"),
        ],
        Version::V3 | Version::V3_1 => [
            (":method", "GET"),
            (":path", "/"),
            (":version", "HTTP/1.1"),
            (":host", "localhost"),
            (":scheme", "https"),
        ],
    };
    block(&pairs)
}

/// The header block of a response with status 200.
#[must_use]
pub fn reply_block(version: Version) -> HeaderBlock {
    match version {
        Version::V2 => block(&[("status", "200 OK"), ("version", "HTTP/1.1")]),
        Version::V3 | Version::V3_1 => block(&[(":status", "200 OK"), (":version", "HTTP/1.1")]),
    }
}

/// A header block with these fields.
///
/// # Panics
///
/// If one of them is not sound.
#[must_use]
pub fn block(pairs: &[(&str, &str)]) -> HeaderBlock {
    HeaderBlock::from_pairs(pairs.iter().copied()).expect("the fields are sound")
}
