//! Counts the bytes of HTTP/2 responses on their way to the client, and finds what tells the client
//! of a fault.

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
    Reset { stream: u32, code: u32 },
    GoAway { code: u32 },
}

impl Fault {
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
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
                match self.head[TYPE] {
                    DATA => data += of_payload as u64,
                    RST_STREAM | GO_AWAY => self.keep(payload),
                    _ => {}
                }
            }
            if self.passed == HEAD && self.left == 0 {
                self.passed = 0;
                if self.kept > 0 {
                    self.kept = 0;
                    tell(self.fault());
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

    fn fault(&self) -> Fault {
        let [a, b, c, d, e, f, g, h] = self.told;
        if self.head[TYPE] == RST_STREAM {
            let [.., i, j, k, l] = self.head;
            Fault::Reset {
                stream: u32::from_be_bytes([i, j, k, l]),
                code: u32::from_be_bytes([a, b, c, d]),
            }
        } else {
            // The last stream comes first.
            Fault::GoAway {
                code: u32::from_be_bytes([e, f, g, h]),
            }
        }
    }
}

/// The length of the head of a frame, the place of the type in it, and types.
const HEAD: usize = 9;
const TYPE: usize = 3;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GO_AWAY: u8 = 7;

/// The longest beginning of a payload that has the code.
const TOLD: usize = 8;

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
}
