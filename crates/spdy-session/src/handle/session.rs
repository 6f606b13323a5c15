//! The handle of a session.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use spdy_frame::{HeaderBlock, RstStatus, Setting, Side, StreamId, Version};
use tokio::sync::oneshot;

use super::stream::Stream;
use crate::{
    OpenError, SessionError,
    proto::{OpenOptions, Shutdown},
    shared::{
        session::{Note, OpenOrder},
        stream_cell::{Hub, StreamCell},
    },
};

/// Opens streams, and ends the session. Clones are handles of the same session.
///
/// Nothing happens unless the [`Driver`](crate::Driver) is polled. When all clones and the
/// [`Incoming`](crate::Incoming) are dropped, the session ends after its open streams have ended.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
}

impl Session {
    /// The hub counts its first handle already.
    pub(crate) fn first(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Opens a stream with SYN_STREAM.
    ///
    /// Waits while the peer has as many open streams of this side as it accepts. Waiting streams
    /// are opened in the order of the calls. A push, which has an
    /// [associated](OpenOptions::associated) stream, does not wait: it fails with
    /// [`OpenError::TooManyStreams`].
    ///
    /// This call orders the stream, before the future is polled. The future is ready when the
    /// stream is open on this side. [`Stream::response_headers`] waits for the reply of the peer.
    ///
    /// Dropping the future gives the stream up: it is not opened, or is reset with CANCEL if it is
    /// open already.
    ///
    /// # Errors
    ///
    /// Returns an [`OpenError`]. Nothing was sent then.
    pub fn open(&self, headers: HeaderBlock, how: OpenOptions) -> Opening {
        self.open_noting(headers, how, |_| {})
    }

    /// The same as [`open`](Self::open), but calls `note` with the id of the stream before anything
    /// that the peer sends about the stream is visible. Otherwise a push that belongs to the stream
    /// could be accepted before the future is polled. `note` runs on the driver's task and must not
    /// block.
    ///
    /// # Errors
    ///
    /// The same as [`open`](Self::open). `note` is not called then.
    pub fn open_noting(
        &self,
        headers: HeaderBlock,
        how: OpenOptions,
        note: impl FnOnce(StreamId) + Send + 'static,
    ) -> Opening {
        let (answer, opened) = oneshot::channel();
        let refused = self
            .hub
            .open(OpenOrder {
                headers,
                how,
                note: Note(Box::new(note)),
                answer,
            })
            .err();
        Opening {
            hub: Arc::clone(&self.hub),
            opened,
            refused,
        }
    }

    /// Returns whether streams can still be opened. Returns `false` once one of the sides has sent
    /// GOAWAY, the peer has ended its bytes, the transport takes no more bytes, the ids are used
    /// up, or the session has ended.
    ///
    /// This can change at any time, so only the result of [`open`](Self::open) is certain.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.hub.can_open()
    }

    /// Returns what the peer has announced in SETTINGS so far: the latest entry of each id as it
    /// arrived, and at most 64 of them. So an application can store values that the server asks it
    /// to store ([`SettingFlags::PERSIST_VALUE`]). The session itself stores and echoes nothing
    /// ([protocol.md §14]).
    ///
    /// [`SettingFlags::PERSIST_VALUE`]: spdy_frame::SettingFlags::PERSIST_VALUE
    /// [protocol.md §14]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#14-settings-semantics
    #[must_use]
    pub fn peer_settings(&self) -> Vec<Setting> {
        self.hub.peer_settings()
    }

    /// Measures a round trip with PING.
    ///
    /// Cancel safe: then the answer is ignored.
    ///
    /// # Errors
    ///
    /// Returns why the session has ended before the answer arrived. If more than 64 PINGs wait for
    /// their answers, the oldest fail with [`SessionError::Closed`].
    pub async fn ping(&self) -> Result<Duration, SessionError> {
        let (answer, pong) = oneshot::channel();
        self.hub.ping(answer)?;
        pong.await.map_err(|_| self.hub.error())
    }

    /// Ends the session, in order or at once. Does not wait: see [`closed`](Self::closed). A
    /// further call can only make the end come sooner. After [`Shutdown::Now`] nothing resets a
    /// stream any more: to the peer, open streams end with the session.
    pub fn shutdown(&self, how: Shutdown) {
        self.hub.shutdown(how);
    }

    /// Waits until the session has ended. Returns `Ok` if one of the sides has ended it in order,
    /// as the [`Driver`](crate::Driver) does. Dropping the driver ends the session with
    /// [`SessionError::Closed`].
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns why the session has ended, unless it ended in order.
    pub async fn closed(&self) -> Result<(), SessionError> {
        self.hub.ended().await
    }

    /// Returns whether both are handles of the same session.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hub, &other.hub)
    }

    /// Returns the negotiated version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.hub.version
    }

    /// Returns the role of this side.
    #[must_use]
    pub fn side(&self) -> Side {
        self.hub.side
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        self.hub.session_cloned();
        Self {
            hub: Arc::clone(&self.hub),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.session_dropped();
    }
}

/// A stream that is being opened: see [`Session::open`].
#[derive(Debug)]
#[must_use = "a stream is given up when this is dropped"]
pub struct Opening {
    hub: Arc<Hub>,
    opened: oneshot::Receiver<Result<Arc<StreamCell>, OpenError>>,
    refused: Option<OpenError>,
}

impl Future for Opening {
    type Output = Result<Stream, OpenError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.opened).poll(cx)) {
            Ok(opened) => opened.map(Stream::opened),
            Err(_) => Err(OpenError::Session(self.hub.error())),
        })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // This is first, so that the driver either has sent the stream or sees that it was given
        // up.
        self.opened.close();
        if let Ok(Ok(cell)) = self.opened.try_recv() {
            cell.abandon(RstStatus::CANCEL);
        }
    }
}
