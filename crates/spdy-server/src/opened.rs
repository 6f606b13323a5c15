//! Finds the streams that an HTTP/2 client opens among the bytes that a server reads.

/// Counts the header blocks that open a stream, once they are complete.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The number of bytes that are left of the preface.
    preface: usize,
    /// The head of the current frame, and how many bytes of it have passed.
    head: [u8; HEAD],
    passed: usize,
    /// The number of bytes that are left of its payload, once the head has passed.
    left: usize,
    /// The last stream that was opened.
    last: u32,
    /// Whether its header block goes on.
    goes_on: bool,
}

impl Default for Opened {
    fn default() -> Self {
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            passed: 0,
            left: 0,
            last: 0,
            goes_on: false,
        }
    }
}

impl Opened {
    /// Returns how many streams are opened by header blocks that end in these bytes.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let of_preface = self.preface.min(bytes.len());
        self.preface -= of_preface;
        bytes = &bytes[of_preface..];
        let mut opened = 0;
        while !bytes.is_empty() {
            if self.passed < HEAD {
                let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.passed));
                self.head[self.passed..][..head.len()].copy_from_slice(head);
                self.passed += head.len();
                let [high, middle, low, ..] = self.head;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                bytes = rest;
            } else {
                let of_payload = self.left.min(bytes.len());
                self.left -= of_payload;
                bytes = &bytes[of_payload..];
            }
            if self.passed == HEAD && self.left == 0 {
                self.passed = 0;
                opened += u64::from(self.opens());
            }
        }
        opened
    }

    /// Returns the last stream that was opened.
    pub(crate) const fn last(&self) -> u32 {
        self.last
    }

    /// Returns whether the frame that has just passed completes the header block of a new stream.
    fn opens(&mut self) -> bool {
        let [_, _, _, of_type, flags, stream @ ..] = self.head;
        let stream = u32::from_be_bytes(stream) & MAX_STREAM;
        let is_last = flags & END_HEADERS != 0;
        match of_type {
            // A later block of a stream has its trailers.
            HEADERS if stream > self.last => self.last = stream,
            CONTINUATION if self.goes_on => {}
            _ => return false,
        }
        self.goes_on = !is_last;
        is_last
    }
}

/// The length of the preface, and of the head of a frame.
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// The highest number of a stream. The bit above it is reserved.
const MAX_STREAM: u32 = u32::MAX >> 1;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(of_type: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, of_type, flags, 0, 0, 0, stream];
        // Payload that looks like the heads of frames.
        frame.extend((0..length).map(|at| [0, 0, 0, 1, 4, 0, 0, 0, 99][at as usize % HEAD]));
        frame
    }

    #[test]
    fn new_streams_are_counted_once_their_block_is_complete_however_the_bytes_are_cut() {
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, 6),
            // Whole, in three frames, and trailers of the first.
            frame(HEADERS, END_HEADERS, 1, 20),
            frame(0, 0, 1, 200),
            frame(HEADERS, 0, 3, 30),
            frame(CONTINUATION, 0, 3, 0),
            frame(CONTINUATION, END_HEADERS, 3, 9),
            frame(HEADERS, 0, 1, 5),
            frame(CONTINUATION, END_HEADERS, 1, 5),
            frame(3, 0, 3, 4),
            frame(HEADERS, END_HEADERS, 7, 0),
        ]
        .concat();
        for length in 1..=bytes.len() {
            let mut opened = Opened::default();
            let count: u64 = bytes.chunks(length).map(|piece| opened.pass(piece)).sum();
            assert_eq!((count, opened.last()), (3, 7), "in pieces of {length}");
        }
        // A block that is not complete opens nothing.
        let mut opened = Opened::default();
        assert_eq!(opened.pass(&bytes[..24]), 0);
        assert_eq!(opened.pass(&frame(HEADERS, 0, 1, 5)), 0);
    }
}
