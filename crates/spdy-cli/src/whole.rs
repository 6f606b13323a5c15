//! What is read into memory as a whole: data of requests, recordings.

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
pub(crate) fn whole(path: &Path, cure: &str) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        within(MAX_WHOLE, io::stdin(), cure)
    } else {
        File::open(path).and_then(|file| within(MAX_WHOLE, file, cure))
    };
    read.map_err(|error| Failure::local(format_args!("cannot read {}", path.display()), &error))
}

fn within(limit: u64, source: impl Read, cure: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let reason = format!("it has more than 1 GiB, which must fit in memory: {cure}");
        return Err(io::Error::other(reason));
    }
    Ok(bytes)
}

/// More than a request that is made of options needs, and less than most machines have.
pub(crate) const MAX_WHOLE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_read_to_the_limit() {
        assert_eq!(within(4, &b"1234"[..], "").unwrap(), b"1234");
        assert_eq!(within(4, io::empty(), "").unwrap(), b"");
        let refused = within(4, io::repeat(0), "cut it").unwrap_err().to_string();
        assert!(refused.contains("more than 1 GiB"), "{refused}");
        assert!(refused.ends_with(": cut it"), "{refused}");
    }
}
