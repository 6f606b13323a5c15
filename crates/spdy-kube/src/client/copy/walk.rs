//! Finds out whether a tar archive is complete.

/// Walks through an archive as it passes, from header to header.
///
/// A server that loses the end of an output can report success nevertheless. An archive ends with
/// two blocks of zeros, but so may the part of a file before a cut. So the length of each file
/// matters.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The bytes of the current file that have not passed, with those that fill its last block.
    content: u64,
    /// The beginning of the next block.
    block: Vec<u8>,
    /// How many blocks of zeros have passed since the last header.
    zeros: u64,
    /// Whether a header has a form that this walk does not know. Then only the last blocks count.
    is_lost: bool,
}

impl Walk {
    pub(super) fn pass(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.content > 0 {
                let length = usize::try_from(self.content).unwrap_or(usize::MAX);
                let length = length.min(piece.len());
                piece = &piece[length..];
                self.content -= length as u64;
                continue;
            }
            let (part, rest) = piece.split_at(piece.len().min(BLOCK - self.block.len()));
            piece = rest;
            self.block.extend_from_slice(part);
            if self.block.len() == BLOCK {
                self.pass_block();
                self.block.clear();
            }
        }
    }

    /// Passes a block that is a header, or belongs to the end.
    fn pass_block(&mut self) {
        if self.block.iter().all(|byte| *byte == 0) {
            self.zeros += 1;
            return;
        }
        if self.zeros >= 2 && !self.is_lost {
            // Behind the end there may be anything.
            return;
        }
        self.zeros = 0;
        match content(&self.block).filter(|_| !self.is_lost) {
            Some(length) => self.content = length.next_multiple_of(BLOCK as u64),
            None => self.is_lost = true,
        }
    }

    /// Returns whether the end has passed.
    pub(super) const fn is_complete(&self) -> bool {
        self.zeros >= 2 && (!self.is_lost || self.block.is_empty())
    }
}

/// Returns the length of the file behind a header. Returns `None` if the header has another form,
/// such as that of a sparse file, or can change the length in the next one.
fn content(header: &[u8]) -> Option<u64> {
    let (sum, kind) = (number(&header[148..156])?, header[156]);
    let blank = header[148..156].iter().copied().map(u64::from);
    let all = header.iter().copied().map(u64::from);
    let own = all.sum::<u64>() - blank.sum::<u64>() + 8 * u64::from(b' ');
    let length = number(&header[124..136]).filter(|length| *length < MOST)?;
    (sum == own && !matches!(kind, b'S' | b'x' | b'g')).then_some(length)
}

/// Parses a number: octal digits, or bytes for a number that is too large for these.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first == 0x80 {
        let (high, low) = rest.split_at(rest.len().checked_sub(8)?);
        let is_small = high.iter().all(|byte| *byte == 0);
        return low
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
            .filter(|_| is_small);
    }
    let text = str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8).ok()
}

const BLOCK: usize = 512;

/// No file is as long as this, in bytes.
const MOST: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: &[u8; 12], kind: u8) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..4].copy_from_slice(b"name");
        header[124..136].copy_from_slice(size);
        header[156] = kind;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    /// Returns whether an archive is complete that comes in pieces of a length.
    fn is_complete(archive: &[u8], length: usize) -> bool {
        let mut walk = Walk::default();
        for piece in archive.chunks(length) {
            walk.pass(piece);
        }
        walk.is_complete()
    }

    #[test]
    fn a_cut_anywhere_is_noticed_in_a_file_of_zeros_too() {
        let mut archive = header(b"00000003001\0", b'0');
        archive.resize(archive.len() + 2048, 0);
        archive.extend(header(b"00000000000\0", b'5'));
        archive.extend(header(b"\x80\0\0\0\0\0\0\0\0\0\x02\0", b'0'));
        archive.resize(archive.len() + 512, 7);
        let files = archive.len();
        archive.resize(10_240, 0);
        for cut in 0..=archive.len() {
            let expected = cut >= files + 1024;
            for length in [100, 700] {
                let complete = is_complete(&archive[..cut], length);
                assert_eq!(complete, expected, "cut at {cut}, pieces of {length}");
            }
        }
        archive.extend([9; 100]);
        assert!(is_complete(&archive, 512), "something follows");
    }

    #[test]
    fn an_archive_of_another_form_is_complete_if_it_ends_with_zeros() {
        let sparse = header(b"00000001000\0", b'S');
        let mut broken = header(b"00000001000\0", b'0');
        broken[0] += 1;
        let unreadable = header(b"number......", b'0');
        let endless = header(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", b'0');
        for first in [sparse, broken, unreadable, endless] {
            let mut archive = first;
            archive.resize(2048, 0);
            archive.resize(4096, 1);
            assert!(!is_complete(&archive, 512));
            archive.resize(5120, 0);
            assert!(is_complete(&archive, 512));
            assert!(!is_complete(&archive[..5119], 512));
        }
    }

    #[test]
    fn nothing_is_no_archive() {
        assert!(!is_complete(b"", 1));
    }
}
