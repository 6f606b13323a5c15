//! Copies between the client and a command.

use std::{future::pending, io, pin::pin, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Io, Stdin, Stdout};

impl Io {
    /// Copies between the client and a command, until both outputs of the command have ended.
    ///
    /// - At the end of the client's input, or immediately without an input, `stdin` is shut down
    ///   and dropped.
    /// - If the command reads no more or has ended, the rest of the input is thrown away, so it
    ///   does not stop the session.
    /// - If the client is gone `stdin` stays open, because a command may take the end of its input
    ///   for success. An output that the client no longer reads is dropped.
    /// - `EIO` from an output is its end, because a terminal ends in this way.
    ///
    /// Takes the streams out of [`Io`]. Dropping the future ends them.
    ///
    /// # Errors
    ///
    /// Returns the error of reading an output of the command.
    pub async fn copy<I, O, E>(
        &mut self,
        stdin: Option<I>,
        stdout: Option<O>,
        stderr: Option<E>,
    ) -> io::Result<()>
    where
        I: AsyncWrite + Unpin,
        O: AsyncRead + Unpin,
        E: AsyncRead + Unpin,
    {
        let (_, rest) = Rest::new(None);
        self.pass(stdin, stdout, stderr, rest).await
    }

    /// Copies as [`copy`](Self::copy) does, until the command has ended too. Returns what `exit`
    /// returns.
    ///
    /// A process that the command has started can keep the outputs open after the end of the
    /// command. [`Server::drain`](crate::Server::drain) limits how long the outputs are read then.
    /// The time while the client does not read does not count, so nothing is lost that the command
    /// itself has written to a pipe.
    ///
    /// # Errors
    ///
    /// Returns the error of reading an output of the command, or of `exit`.
    pub async fn run<I, O, E, T>(
        &mut self,
        stdin: Option<I>,
        stdout: Option<O>,
        stderr: Option<E>,
        exit: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T>
    where
        I: AsyncWrite + Unpin,
        O: AsyncRead + Unpin,
        E: AsyncRead + Unpin,
    {
        let (exited, rest) = Rest::new(self.drain);
        let exit = async {
            let exit = exit.await?;
            exited.send_replace(Some(Instant::now()));
            Ok(exit)
        };
        let copying = self.pass(stdin, stdout, stderr, rest);
        let (exit, ()) = tokio::try_join!(exit, copying)?;
        Ok(exit)
    }

    async fn pass<I, O, E>(
        &mut self,
        stdin: Option<I>,
        stdout: Option<O>,
        stderr: Option<E>,
        rest: Rest,
    ) -> io::Result<()>
    where
        I: AsyncWrite + Unpin,
        O: AsyncRead + Unpin,
        E: AsyncRead + Unpin,
    {
        let input = feed(self.stdin.take(), stdin);
        let outputs = async {
            let stdout = drain(stdout, self.stdout.take(), rest.clone());
            let stderr = drain(stderr, self.stderr.take(), rest);
            tokio::try_join!(stdout, stderr)
        };
        let (mut input, mut outputs) = (pin!(input), pin!(outputs));
        let mut fed = false;
        loop {
            tokio::select! {
                () = &mut input, if !fed => fed = true,
                ended = &mut outputs => return ended.map(drop),
            }
        }
    }
}

/// Copies the client's input to the command.
async fn feed(from: Option<Stdin>, to: Option<impl AsyncWrite + Unpin>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    while let Some(piece) = from.next().await {
        let Ok(piece) = piece else {
            // The client is gone, which is not the end of its input.
            return pending().await;
        };
        if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    _ = to.shutdown().await;
}

/// Copies an output of the command to the client, or throws it away.
async fn drain(
    from: Option<impl AsyncRead + Unpin>,
    mut to: Option<Stdout>,
    mut rest: Rest,
) -> io::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let mut buffer = BytesMut::new();
    while !rest.is_enough() {
        buffer.reserve(PIECE);
        // What is there already is read before the clock is looked at.
        let read = tokio::select! {
            biased;
            read = from.read_buf(&mut buffer) => read,
            () = rest.over() => return Ok(()),
        };
        match read {
            Ok(0) => return Ok(()),
            Ok(bytes) => rest.read(bytes),
            Err(error) if error.raw_os_error() == Some(EIO) => return Ok(()),
            Err(error) => return Err(error),
        }
        match &mut to {
            Some(to) => {
                let sending = to.send(buffer.split().freeze());
                if rest.held_up(sending).await.is_err() {
                    return Ok(());
                }
            }
            None => buffer.clear(),
        }
    }
    Ok(())
}

/// What an output is still read after the end of its command.
#[derive(Clone, Debug)]
struct Rest {
    /// For how long. `None` means to its end.
    limit: Option<Duration>,
    /// When the command has ended.
    exited: watch::Receiver<Option<Instant>>,
    /// How long the client has not read since then.
    held_up: Duration,
    /// How many bytes were read since then.
    bytes: usize,
}

impl Rest {
    /// Returns the sender of the moment at which the command has ended. With a limit it has to be
    /// kept.
    fn new(limit: Option<Duration>) -> (watch::Sender<Option<Instant>>, Self) {
        let (sender, exited) = watch::channel(None);
        let rest = Self {
            limit,
            exited,
            held_up: Duration::ZERO,
            bytes: 0,
        };
        (sender, rest)
    }

    /// Returns the moment at which the output is not read any more, once the command has ended.
    fn end(&self) -> Option<Instant> {
        let limit = self.limit?.checked_add(self.held_up)?;
        (*self.exited.borrow())?.checked_add(limit)
    }

    /// Waits for that moment. Cancel safe.
    async fn over(&mut self) {
        if self.limit.is_none() || self.exited.wait_for(Option::is_some).await.is_err() {
            return pending().await;
        }
        match self.end() {
            Some(end) => sleep_until(end).await,
            None => pending().await,
        }
    }

    /// Returns whether the time is over, and more was read than the command itself can have left.
    fn is_enough(&self) -> bool {
        self.bytes > LARGEST_PIPE && self.end().is_some_and(|end| end <= Instant::now())
    }

    fn read(&mut self, bytes: usize) {
        if self.limit.is_some() && self.exited.borrow().is_some() {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Waits for the client. That time does not count.
    async fn held_up<T>(&mut self, sending: impl Future<Output = T>) -> T {
        if self.limit.is_none() {
            return sending.await;
        }
        let begin = Instant::now();
        let sent = sending.await;
        if let Some(exited) = *self.exited.borrow() {
            self.held_up += begin.max(exited).elapsed();
        }
        sent
    }
}

/// How many bytes of an output are read at once.
const PIECE: usize = 32 * 1024;

/// The error of reading a terminal whose other side is closed.
const EIO: i32 = 5;

/// The largest pipe that a user can make on Linux, in bytes.
const LARGEST_PIPE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_output_that_never_pauses_is_read_for_the_time_and_one_pipe() {
        let limit = Duration::from_secs(1);
        let (exited, mut rest) = Rest::new(Some(limit));
        rest.read(LARGEST_PIPE + 1);
        exited.send_replace(Some(Instant::now()));
        tokio::time::advance(limit).await;
        assert!(!rest.is_enough(), "those bytes are older than the end");
        rest.read(LARGEST_PIPE);
        assert!(!rest.is_enough(), "the command may have left them");
        rest.read(1);
        assert!(rest.is_enough());
        let end = rest.end().unwrap();
        rest.held_up(tokio::time::sleep(limit)).await;
        assert_eq!(rest.end(), Some(end + limit), "the client has not read");
    }
}
