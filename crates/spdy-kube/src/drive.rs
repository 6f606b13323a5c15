//! Drives sessions to their end.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use spdy_session::{Driver, SessionError, Timeout};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Drives a session. Its peer may hold it up for hours, but not when it is over: then the peer has
/// this time to read what is left and to close its side, whatever it sends meanwhile.
pub(crate) async fn drive<IO>(driver: Driver<IO>, time: Duration) -> Result<(), SessionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    drive_noting(driver, time, |_| {}).await
}

/// The same. `note` learns after each step whether the transport holds something that was written:
/// see [`Driver::holds_written`].
pub(crate) async fn drive_noting<IO>(
    mut driver: Driver<IO>,
    time: Duration,
    note: impl Fn(bool),
) -> Result<(), SessionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut step = |cx: &mut Context<'_>| {
        let polled = Pin::new(&mut driver).poll(cx);
        note(driver.holds_written());
        (polled, driver.is_closing())
    };
    let over = poll_fn(|cx| match step(cx) {
        (Poll::Pending, false) => Poll::Pending,
        (polled, _) => Poll::Ready(polled),
    });
    match over.await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => timeout(time, poll_fn(|cx| step(cx).0))
            .await
            .unwrap_or(Err(SessionError::TimedOut(Timeout::Write))),
    }
}

/// How long the client of a session that is over has.
pub(crate) const CLOSE: Duration = Duration::from_secs(30);
