//! Drives sessions to their end.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use spdy_session::{Driver, SessionError, Timeout};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Drives a session. Its peer may hold it up for hours, but not when it is over: then the peer has
/// this time to read what is left and to close its side, whatever it sends meanwhile.
pub(crate) async fn drive<IO>(mut driver: Driver<IO>, time: Duration) -> Result<(), SessionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let over = poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
        Poll::Pending if !driver.is_closing() => Poll::Pending,
        polled => Poll::Ready(polled),
    });
    match over.await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => timeout(time, driver)
            .await
            .unwrap_or(Err(SessionError::TimedOut(Timeout::Write))),
    }
}

/// How long the client of a session that is over has.
pub(crate) const CLOSE: Duration = Duration::from_secs(30);
