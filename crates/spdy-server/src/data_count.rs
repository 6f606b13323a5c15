//! Counts the bytes of HTTP/2 responses on their way to the client.

/// Finds the payload of the DATA frames among the bytes that a server writes. Everything else, such
/// as the replies to PINGs, says nothing of whether the client reads a response.
#[derive(Debug, Default)]
pub(crate) struct DataCount {
    /// The head of the current frame, and how many bytes of it have passed.
    head: [u8; HEAD],
    passed: usize,
    /// The number of bytes that are left of its payload, once the head has passed.
    left: usize,
}

impl DataCount {
    /// Returns how many of these bytes are payload of DATA frames.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> u64 {
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
                bytes = &bytes[of_payload..];
                self.left -= of_payload;
                if self.head[TYPE] == DATA {
                    data += of_payload as u64;
                }
            }
            if self.passed == HEAD && self.left == 0 {
                self.passed = 0;
            }
        }
        data
    }
}

/// The length of the head of a frame, the place of the type in it, and the type of DATA.
const HEAD: usize = 9;
const TYPE: usize = 3;
const DATA: u8 = 0;

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
            let counted: u64 = frames.chunks(length).map(|bytes| count.pass(bytes)).sum();
            assert_eq!(counted, 70_005, "in pieces of {length}");
        }
    }
}
