//! The file of a recording, with the SHA-256 of what was written.

use std::{
    fmt::Write as _,
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use sha2::{Digest, Sha256};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWrite,
    sync::oneshot,
};

/// A file that is written. When it is shut down, its length and its SHA-256 are reported.
pub(crate) struct RecordingFile {
    file: File,
    hash: Sha256,
    length: u64,
    done: Option<oneshot::Sender<Written>>,
}

/// A recording that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) length: u64,
    /// In hexadecimal digits, as `sha256sum` prints it.
    pub(crate) sha256: String,
}

impl RecordingFile {
    /// Creates a file that only its owner can read. There must not be a file of this name.
    pub(crate) async fn create(path: &Path) -> io::Result<(Self, oneshot::Receiver<Written>)> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .await?;
        // It keeps a buffer of this size from the first long write to the end.
        file.set_max_buf_size(BUFFER);
        let (done, written) = oneshot::channel();
        let file = Self {
            file,
            hash: Sha256::new(),
            length: 0,
            done: Some(done),
        };
        Ok((file, written))
    }
}

impl AsyncWrite for RecordingFile {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.file).poll_write(cx, bytes))?;
        self.hash.update(&bytes[..length]);
        self.length += length as u64;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A file reports the error of its last write when it is flushed.
        ready!(Pin::new(&mut self.file).poll_flush(cx))?;
        if let Some(done) = self.done.take() {
            let hash = std::mem::take(&mut self.hash).finalize();
            let mut sha256 = String::new();
            for byte in hash.as_slice() {
                // Writing to a string cannot fail.
                _ = write!(sha256, "{byte:02x}");
            }
            let length = self.length;
            _ = done.send(Written { length, sha256 });
        }
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}

/// How many bytes of a recording are copied for the thread that writes them.
const BUFFER: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_hash_is_of_what_the_file_has() {
        let path = std::env::temp_dir().join(format!("spdy-bastion-file-{}", std::process::id()));
        let (mut file, written) = RecordingFile::create(&path).await.unwrap();
        file.write_all(b"ab").await.unwrap();
        file.write_all(b"c").await.unwrap();
        file.shutdown().await.unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file.file.max_buf_size(), BUFFER);
        let expected = Written {
            length: 3,
            sha256: sha256.to_owned(),
        };
        assert_eq!(written.await, Ok(expected));
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = RecordingFile::create(&path).await.err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();
    }
}
