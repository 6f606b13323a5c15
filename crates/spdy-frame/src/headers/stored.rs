//! Writes header blocks without compression.

use bytes::{BufMut, BytesMut};

use super::{HeaderBlock, numbers::Numbers};

/// Writes a block that takes `serialized` bytes before compression as stored deflate blocks, and a
/// sync marker (protocol.md §8.3).
pub(super) fn write(block: &HeaderBlock, numbers: Numbers, serialized: usize, dst: &mut BytesMut) {
    let mut writer = StoredWriter {
        dst,
        block: 0,
        rest: serialized,
    };
    writer.put(numbers.bytes(block.len()).as_slice());
    for field in block.fields() {
        for part in [field.name(), field.value()] {
            writer.put(numbers.bytes(part.len()).as_slice());
            writer.put(part);
        }
    }
    writer.begin_block(0);
}

/// Cuts bytes into stored deflate blocks.
struct StoredWriter<'a> {
    dst: &'a mut BytesMut,
    /// The number of bytes that still fit into the stored block.
    block: usize,
    /// The number of bytes that follow it.
    rest: usize,
}

impl StoredWriter<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.block == 0 {
                self.block = self.rest.min(STORED_BLOCK);
                self.rest -= self.block;
                self.begin_block(self.block as u16);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.block));
            self.dst.put_slice(now);
            self.block -= now.len();
            bytes = later;
        }
    }

    /// Writes the head of a stored block. With a length of 0 it is the sync marker.
    fn begin_block(&mut self, length: u16) {
        self.dst.put_u8(0);
        self.dst.put_u16_le(length);
        self.dst.put_u16_le(!length);
    }
}

/// Returns the size of the output for `serialized` bytes.
pub(super) const fn length(serialized: usize) -> usize {
    serialized + 5 * (serialized.div_ceil(STORED_BLOCK) + 1)
}

/// The longest stored block in bytes.
const STORED_BLOCK: usize = u16::MAX as usize;
