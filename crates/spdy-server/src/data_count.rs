//! Counts the bytes of HTTP/2 responses on their way to the client, and finds what tells the client
//! of a fault, or that a request was refused.

use std::mem;

/// Finds the payload of the DATA frames among the bytes that a server writes. Everything else, such
/// as the replies to PINGs, says nothing of whether the client reads a response.
///
/// hyper does not tell of the requests that h2 refuses, so this also finds the frames that do.
#[derive(Debug, Default)]
pub(crate) struct DataCount {
    /// The head of the current frame, and how many bytes of it have passed.
    head: [u8; HEAD],
    passed: usize,
    /// The number of bytes that are left of its payload, once the head has passed.
    left: usize,
    /// The beginning of the payload of a frame that tells of a fault, and how much of it has
    /// passed.
    told: [u8; TOLD],
    kept: usize,
}

/// What a server tells its client of a fault, with a code of RFC 9113, section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        code: u32,
    },
    /// A stream ends with a block of one field, which can be the head that h2 sends for a request
    /// whose fields are too long. Others that look like it are trailers.
    OneField {
        stream: u32,
    },
}

impl Fault {
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const REFUSED_STREAM: u32 = 7;
}

impl DataCount {
    /// Returns how many of these bytes are payload of DATA frames. Calls `tell` for each frame that
    /// tells of a fault and ends in these bytes.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Fault)) -> u64 {
        let mut data = 0;
        while !bytes.is_empty() {
            if self.passed < HEAD {
                let of_head = bytes.len().min(HEAD - self.passed);
                let (head, rest) = bytes.split_at(of_head);
                self.head[self.passed..][..of_head].copy_from_slice(head);
                self.passed += of_head;
                bytes = rest;
                let [high, middle, low, ..] = self.head;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
            } else {
                let of_payload = bytes.len().min(self.left);
                let (payload, rest) = bytes.split_at(of_payload);
                bytes = rest;
                self.left -= of_payload;
                match (self.head[TYPE], self.head[FLAGS] & WHOLE) {
                    (DATA, _) => data += of_payload as u64,
                    (RST_STREAM | GO_AWAY, _) | (HEADERS, WHOLE) => self.keep(payload),
                    _ => {}
                }
            }
            if self.passed == HEAD && self.left == 0 {
                self.passed = 0;
                let kept = mem::take(&mut self.kept);
                if let Some(fault) = (kept > 0).then(|| self.fault(kept)).flatten() {
                    tell(fault);
                }
            }
        }
        data
    }

    fn keep(&mut self, payload: &[u8]) {
        let kept = payload.len().min(TOLD - self.kept);
        self.told[self.kept..][..kept].copy_from_slice(&payload[..kept]);
        self.kept += kept;
    }

    fn fault(&self, kept: usize) -> Option<Fault> {
        let [a, b, c, d, e, f, g, h, ..] = self.told;
        let [_, _, _, of_type, _, i, j, k, l] = self.head;
        let stream = u32::from_be_bytes([i, j, k, l]);
        match of_type {
            RST_STREAM => Some(Fault::Reset {
                stream,
                code: u32::from_be_bytes([a, b, c, d]),
            }),
            // The last stream comes first.
            GO_AWAY => Some(Fault::GoAway {
                code: u32::from_be_bytes([e, f, g, h]),
            }),
            _ => is_one_field(&self.told[..kept]).then_some(Fault::OneField { stream }),
        }
    }
}

/// Returns whether a header block (RFC 7541, section 6) has one field, which is `:status` with a
/// value of its own, or one of the table. Blocks of hyper's responses have `date`, too. A block
/// that is longer than what is kept has more.
fn is_one_field(mut block: &[u8]) -> bool {
    while let [first, rest @ ..] = block
        && first & 0b1110_0000 == TABLE_SIZE
    {
        let goes_on = rest.iter().take_while(|byte| **byte >= 128).count();
        let length = if *first == TABLE_SIZE | 31 {
            goes_on + 1
        } else {
            0
        };
        block = rest.get(length..).unwrap_or_default();
    }
    match block {
        [indexed] => *indexed >= 128,
        [STATUS, length, value @ ..] => usize::from(length & 127) == value.len(),
        _ => false,
    }
}

/// The length of the head of a frame, the places of the type and the flags in it, and types.
const HEAD: usize = 9;
const TYPE: usize = 3;
const FLAGS: usize = 4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GO_AWAY: u8 = 7;

/// The flags of HEADERS that end the block and the stream.
const WHOLE: u8 = 5;

/// The beginnings of an update of the table's size, and of `:status` with a value that is added to
/// the table.
const TABLE_SIZE: u8 = 0b0010_0000;
const STATUS: u8 = 0b0100_1000;

/// The longest beginning of a payload that has the code, or is a block of one field.
const TOLD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(of_type: u8, length: usize) -> Vec<u8> {
        let [_, _, high, middle, low] = (length as u64).to_be_bytes()[3..] else {
            unreachable!("a number has eight bytes")
        };
        let mut frame = vec![high, middle, low, of_type, 0, 0, 0, 0, 1];
        frame.resize(HEAD + length, 0);
        frame
    }

    #[test]
    fn payload_of_data_is_counted_however_the_bytes_are_cut() {
        let frames = [
            frame(4, 0),
            frame(0, 70_000),
            frame(6, 8),
            frame(0, 0),
            frame(1, 300),
            frame(0, 5),
        ]
        .concat();
        for length in [1, 2, 8, 9, 10, 4096, frames.len()] {
            let mut count = DataCount::default();
            let none = |fault| panic!("{fault:?}");
            let pieces = frames.chunks(length);
            let counted: u64 = pieces.map(|bytes| count.pass(bytes, none)).sum();
            assert_eq!(counted, 70_005, "in pieces of {length}");
        }
    }

    #[test]
    fn resets_and_go_aways_are_found_however_the_bytes_are_cut() {
        let mut reset = frame(RST_STREAM, 4);
        reset[8] = 7;
        reset[HEAD + 3] = 8;
        let mut go_away = frame(GO_AWAY, 20);
        go_away[HEAD + 7] = 11;
        let frames = [frame(0, 10), reset, go_away, frame(RST_STREAM, 4)].concat();
        let expected = [
            Fault::Reset { stream: 7, code: 8 },
            Fault::GoAway { code: 11 },
            Fault::Reset { stream: 1, code: 0 },
        ];
        for length in 1..=frames.len() {
            let (mut count, mut told) = (DataCount::default(), Vec::new());
            for bytes in frames.chunks(length) {
                _ = count.pass(bytes, |fault| told.push(fault));
            }
            assert_eq!(told, expected, "in pieces of {length}");
        }
    }

    #[test]
    fn a_head_of_one_field_is_found_however_the_bytes_are_cut() {
        let block = |flags: u8, block: &[u8]| {
            let mut bytes = frame(HEADERS, 0);
            (bytes[2], bytes[FLAGS]) = (block.len() as u8, flags);
            [&bytes, block].concat()
        };
        let literal = b"\x48\x83\x69\x99\x1f";
        for (bytes, is_one) in [
            (block(WHOLE, literal), true),
            (block(WHOLE, b"\xbe"), true),
            (block(WHOLE, b"\x20\x48\x83\x69\x99\x1f"), true),
            (
                block(WHOLE, b"\x20\x3f\xe1\xff\x03\x48\x83\x69\x99\x1f"),
                true,
            ),
            // The body, trailers, or more of the head come after it.
            (block(WHOLE - 1, literal), false),
            (block(WHOLE - 4, literal), false),
            (block(WHOLE, b"\x89\xbe"), false),
            (block(WHOLE, b"\x48\x83\x69\x99\x1f\xbe"), false),
            (block(WHOLE, b"\x20"), false),
            (block(WHOLE, b"\x3f\xff"), false),
            (block(WHOLE, &[0xbe; 40]), false),
            (block(WHOLE, b""), false),
        ] {
            for length in 1..=bytes.len() {
                let (mut count, mut told) = (DataCount::default(), Vec::new());
                for piece in bytes.chunks(length) {
                    _ = count.pass(piece, |fault| told.push(fault));
                }
                let expected = is_one.then_some(Fault::OneField { stream: 1 });
                assert_eq!(told, Vec::from_iter(expected), "{bytes:?} by {length}");
            }
        }
    }
}
