//! What is read into memory as a whole: data of requests, recordings. All of it has one limit.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::failure::Failure;

/// Reads a file, or standard input if its name is `-`. `cure` is what to do if it is too long.
///
/// # Errors
///
/// Fails if it cannot be read, or has more than [`MAX_WHOLE`] bytes, as a device can.
pub(crate) fn whole(path: &Path, cure: &'static str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    Memory::new(cure).read(path, &mut bytes, plain)?;
    Ok(bytes)
}

/// Appends a piece of a file as it is.
pub(crate) fn plain(bytes: &mut Vec<u8>, piece: &[u8]) {
    bytes.extend_from_slice(piece);
}

/// The memory for all that a command reads as a whole.
#[derive(Debug)]
pub(crate) struct Memory {
    left: u64,
    /// What to do if more is needed.
    cure: &'static str,
}

impl Memory {
    pub(crate) const fn new(cure: &'static str) -> Self {
        let left = MAX_WHOLE;
        Self { left, cure }
    }

    /// Reads a file, or standard input if its name is `-`. `append` puts each piece behind the
    /// bytes, in the form in which it is wanted.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        bytes: &mut Vec<u8>,
        append: impl Fn(&mut Vec<u8>, &[u8]),
    ) -> Result<(), Failure> {
        let read = if path == Path::new("-") {
            self.read_from(io::stdin(), bytes, append)
        } else {
            File::open(path).and_then(|file| self.read_from(file, bytes, append))
        };
        read.map_err(|error| Failure::local(format_args!("cannot read {}", path.display()), &error))
    }

    fn read_from(
        &mut self,
        mut source: impl Read,
        bytes: &mut Vec<u8>,
        append: impl Fn(&mut Vec<u8>, &[u8]),
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let read = match source.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let before = bytes.len();
            append(bytes, &piece[..read]);
            // What is left out counts too, since it may have no end.
            let used = read.max(bytes.len() - before) as u64;
            self.left = self.left.checked_sub(used).ok_or_else(|| {
                let cure = self.cure;
                io::Error::other(format!("more than 1 GiB must fit in memory: {cure}"))
            })?;
        }
    }
}

/// The bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// More than a request that is made of options needs, and less than most machines have.
pub(crate) const MAX_WHOLE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_read_to_the_limit() {
        let limited = |left| Memory {
            left,
            cure: "cut it",
        };
        let mut bytes = Vec::new();
        limited(4)
            .read_from(&b"1234"[..], &mut bytes, plain)
            .unwrap();
        assert_eq!(bytes, b"1234");
        limited(0)
            .read_from(io::empty(), &mut bytes, plain)
            .unwrap();
        for append in [plain, |_: &mut Vec<u8>, _: &[u8]| {}] {
            let refused = limited(4).read_from(io::repeat(0), &mut bytes, append);
            let refused = refused.unwrap_err().to_string();
            assert_eq!(refused, "more than 1 GiB must fit in memory: cut it");
        }
    }

    #[test]
    fn all_that_is_read_has_one_limit_in_the_form_that_is_kept() {
        let mut memory = Memory { left: 9, cure: "" };
        let mut bytes = Vec::new();
        let twice = |bytes: &mut Vec<u8>, piece: &[u8]| bytes.extend([piece, piece].concat());
        memory.read_from(&b"123"[..], &mut bytes, twice).unwrap();
        memory.read_from(&b"456"[..], &mut bytes, plain).unwrap();
        assert_eq!(bytes, b"123123456");
        memory.read_from(&b"7"[..], &mut bytes, plain).unwrap_err();
    }
}
