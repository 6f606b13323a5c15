//! Whole bodies, within a limit.

use std::{error::Error as StdError, fmt, future::poll_fn, pin::pin, str::Utf8Error};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use super::FetchError;
use crate::BoxError;

/// Reads a body to its end, within a limit that the caller sets. It is implemented for every body,
/// so also for those that a layer has changed. Trailers are ignored.
///
/// ```no_run
/// use spdy_tower::client::{Client, ReadBody};
///
/// # async fn fetch(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let response = client.get("https://a.test/").await?;
/// let page = response.into_body().text(1024 * 1024).await?;
/// # Ok(())
/// # }
/// ```
///
/// Each of these futures drops the body when it is dropped, which gives the response up. There is
/// no timeout but those of the body: see
/// [`Connector::request_timeout`](super::Connector::request_timeout).
pub trait ReadBody: Body<Data: Send, Error: Into<BoxError>> + Send + Sized {
    /// Returns the content. If it is longer than `limit` bytes, this fails before more than that
    /// is kept, and at once if the body announces its length.
    fn bytes(self, limit: usize) -> impl Future<Output = Result<Bytes, ReadError>> + Send {
        read(self, limit)
    }

    /// Returns the content, which must be UTF-8, as text. `limit` is that of
    /// [`bytes`](Self::bytes).
    fn text(self, limit: usize) -> impl Future<Output = Result<String, ReadError>> + Send {
        async move {
            let content = read(self, limit).await?;
            let text = String::from_utf8(content.into());
            text.map_err(|error| ReadError::Text(error.utf8_error()))
        }
    }

    /// Returns the value that the content, which must be JSON, stands for. `limit` is that of
    /// [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    fn json<T>(self, limit: usize) -> impl Future<Output = Result<T, ReadError>> + Send
    where
        T: serde_core::de::DeserializeOwned,
    {
        async move {
            let content = read(self, limit).await?;
            serde_json::from_slice(&content).map_err(ReadError::Json)
        }
    }
}

impl<B: Body<Data: Send, Error: Into<BoxError>> + Send> ReadBody for B {}

/// The pieces are copied. A peer that sends a byte at a time would otherwise make each byte keep a
/// buffer of its own.
async fn read<B>(body: B, limit: usize) -> Result<Bytes, ReadError>
where
    B: Body<Error: Into<BoxError>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLong(limit));
    }
    let mut body = pin!(body);
    let mut content = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error| ReadError::Body(error.into()))?;
        let Ok(mut piece) = frame.into_data() else {
            continue;
        };
        if piece.remaining() > limit - content.len() {
            return Err(ReadError::TooLong(limit));
        }
        if content.is_empty() && body.is_end_stream() {
            // The only piece may need no copy.
            return Ok(piece.copy_to_bytes(piece.remaining()));
        }
        while piece.has_remaining() {
            let part = piece.chunk();
            content.extend_from_slice(part);
            piece.advance(part.len());
        }
    }
    Ok(content.freeze())
}

/// Why a body was not read: see [`ReadBody`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The content is longer than the limit, which is contained, in bytes.
    TooLong(usize),
    /// The body returned an error. For a response without layers it is a [`FetchError`].
    Body(BoxError),
    /// The content is not UTF-8.
    Text(Utf8Error),
    /// The content is not JSON, or not of the type that is expected.
    #[cfg(feature = "json")]
    Json(serde_json::Error),
}

impl ReadError {
    /// Returns whether a time limit ran out: see [`FetchError::is_timeout`].
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        let Self::Body(error) = self else {
            return false;
        };
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&**error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<FetchError>() {
                return error.is_timeout();
            }
            cause = error.source();
        }
        false
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "body exceeds the limit of {limit} bytes"),
            Self::Body(_) => f.write_str("body ended early"),
            Self::Text(_) => f.write_str("body is not UTF-8"),
            #[cfg(feature = "json")]
            Self::Json(_) => f.write_str("body is not the expected JSON"),
        }
    }
}

impl StdError for ReadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::TooLong(_) => None,
            Self::Body(error) => Some(&**error),
            Self::Text(error) => Some(error),
            #[cfg(feature = "json")]
            Self::Json(error) => Some(error),
        }
    }
}
