//! Copies files as `kubectl cp` does: a program `tar` in the container packs or unpacks them.

mod walk;

use std::{error::Error, fmt, io};

use http::Request;
use hyper::rt::{Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::walk::Walk;
use super::{Client, ClientError, Input, Output, Remote};
use crate::{BoxError, Options, Status, Streams, printable::Printable, websocket::PIECE};

impl<C, F, IO, E> Client<C>
where
    C: Fn() -> F,
    F: Future<Output = Result<IO, E>>,
    IO: Read + Write + Unpin + Send + 'static,
    E: Into<BoxError>,
{
    /// Unpacks a tar archive in a folder of a container. The container needs a program `tar`.
    ///
    /// `ask` turns the options into a request for exec, and can name a container in them first.
    /// `progress` is called after each piece with the number of bytes of the archive that were
    /// sent. There is no timeout. Dropping the future ends `tar`, and keeps what it has unpacked.
    /// Over WebSocket the server has to know v5.
    ///
    /// # Errors
    ///
    /// [`CopyError`]. A part of the archive may have been unpacked.
    pub async fn copy_to(
        &self,
        ask: impl FnOnce(Options) -> Request<()>,
        folder: &str,
        mut archive: impl AsyncRead + Unpin,
        mut progress: impl FnMut(u64),
    ) -> Result<(), CopyError> {
        let streams = Streams {
            stdin: true,
            stderr: true,
            ..Streams::default()
        };
        let mut remote = self.tar(ask, &["-xmf", "-", "-C", folder], streams).await?;
        let (stdin, stderr) = (remote.stdin.take(), remote.stderr.take());
        let upload = async {
            match stdin {
                Some(stdin) => upload(&mut archive, stdin, &mut progress).await,
                None => Ok(()),
            }
        };
        let copying = async { tokio::try_join!(upload, listen(stderr)) };
        let ((_, said), status) = remote.outcome_with(copying).await?;
        conclude(status, said)
    }

    /// Packs a file or folder of a container, and writes the tar archive. The container needs a
    /// program `tar`.
    ///
    /// `ask` is as for [`copy_to`](Self::copy_to). `progress` is called after each piece with the
    /// number of bytes that were written. The archive is complete only if there is no error. The
    /// writer is flushed and not shut down. There is no timeout.
    ///
    /// The container decides what is in the archive. It can contain absolute names, names with
    /// `..`, and links that lead anywhere. So unpack it with a program that refuses these.
    ///
    /// # Errors
    ///
    /// [`CopyError`]. A part of the archive may have been written.
    pub async fn copy_from(
        &self,
        ask: impl FnOnce(Options) -> Request<()>,
        path: &str,
        mut archive: impl AsyncWrite + Unpin,
        mut progress: impl FnMut(u64),
    ) -> Result<(), CopyError> {
        let streams = Streams {
            stdout: true,
            stderr: true,
            ..Streams::default()
        };
        let mut remote = self.tar(ask, &["cf", "-", "--", path], streams).await?;
        let (stdout, stderr) = (remote.stdout.take(), remote.stderr.take());
        let download = async {
            match stdout {
                Some(stdout) => download(stdout, &mut archive, &mut progress).await,
                None => Ok(Walk::default()),
            }
        };
        let copying = async { tokio::try_join!(download, listen(stderr)) };
        let ((walk, said), status) = remote.outcome_with(copying).await?;
        conclude(status, said)?;
        match walk.is_complete() {
            true => Ok(()),
            false => Err(CopyError::Incomplete),
        }
    }

    async fn tar(
        &self,
        ask: impl FnOnce(Options) -> Request<()>,
        arguments: &[&str],
        streams: Streams,
    ) -> Result<Remote, CopyError> {
        let command = std::iter::once(&"tar").chain(arguments);
        let options = Options {
            command: command.map(|&argument| argument.to_owned()).collect(),
            container: None,
            streams,
        };
        // `tar` might wait for the end of its input for ever, which v4 cannot express.
        let has_v4 = !streams.stdin;
        Ok(self.command(ask(options), streams, has_v4).await?)
    }
}

/// Sends an archive. If `tar` stops reading, its outcome tells the reason.
async fn upload(
    from: &mut (impl AsyncRead + Unpin),
    mut to: Input,
    progress: &mut impl FnMut(u64),
) -> Result<(), CopyError> {
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    loop {
        let length = from.read(&mut piece).await.map_err(CopyError::Archive)?;
        if length == 0 {
            _ = to.shutdown().await;
            return Ok(());
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return Ok(());
        }
        sent += length as u64;
        progress(sent);
    }
}

/// Writes an archive.
async fn download(
    mut from: Output,
    to: &mut (impl AsyncWrite + Unpin),
    progress: &mut impl FnMut(u64),
) -> Result<Walk, CopyError> {
    let mut piece = vec![0; PIECE];
    let (mut walk, mut written) = (Walk::default(), 0);
    loop {
        let length = from.read(&mut piece).await.map_err(ClientError::Stream)?;
        if length == 0 {
            to.flush().await.map_err(CopyError::Archive)?;
            return Ok(walk);
        }
        walk.pass(&piece[..length]);
        to.write_all(&piece[..length])
            .await
            .map_err(CopyError::Archive)?;
        written += length as u64;
        progress(written);
    }
}

/// Reads the error output of `tar` to its end, and returns the beginning.
async fn listen(stderr: Option<Output>) -> Result<String, CopyError> {
    let Some(mut stderr) = stderr else {
        return Ok(String::new());
    };
    let mut said = Vec::new();
    let mut kept = (&mut stderr).take(MAX_TEXT);
    // If the session is lost, the outcome tells it.
    if kept.read_to_end(&mut said).await.is_ok() {
        _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

fn conclude(status: Status, said: String) -> Result<(), CopyError> {
    match status {
        Status::Success => Ok(()),
        status => Err(CopyError::Tar { status, said }),
    }
}

/// Why files were not copied.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// The server refused the request, or the connection was lost.
    Client(ClientError),
    /// The archive on this side cannot be read or written.
    Archive(io::Error),
    /// The archive has no end, although `tar` has reported success. The server has lost a part.
    Incomplete,
    /// `tar` failed, or the container has no `tar`.
    Tar {
        /// The outcome of `tar`.
        status: Status,
        /// The error output of `tar`, up to 64 KiB.
        said: String,
    },
}

impl From<ClientError> for CopyError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Control characters in the output of `tar` are escaped.
impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Archive(_) => f.write_str("archive cannot be read or written"),
            Self::Incomplete => f.write_str("archive has arrived without its end"),
            Self::Tar { status, said } => {
                write!(f, "tar has failed: {}", Printable(status))?;
                match said.trim() {
                    "" => Ok(()),
                    said => write!(f, ": {}", Printable(said)),
                }
            }
        }
    }
}

impl Error for CopyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Client(error) => error.source(),
            Self::Archive(error) => Some(error),
            Self::Incomplete | Self::Tar { .. } => None,
        }
    }
}

/// How much of the error output of `tar` is kept, in bytes.
const MAX_TEXT: u64 = 64 * 1024;
