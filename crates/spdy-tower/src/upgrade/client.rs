//! The side that asks to upgrade.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header::HOST, uri::PathAndQuery,
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Upgraded, agree, is_agreed};

/// Returns a GET request that asks to upgrade to SPDY/3.1, for [`connect`]. You can change the
/// method and add headers.
///
/// The `host` field is the authority of the URI, and the target is its path.
#[must_use]
pub fn request(uri: &Uri) -> Request<()> {
    let mut request = Request::new(());
    let target = match uri.path_and_query().map(PathAndQuery::as_str) {
        Some(target) if target.starts_with('/') => target.parse(),
        target => format!("/{}", target.unwrap_or_default()).parse(),
    };
    *request.uri_mut() = target.unwrap_or_default();
    if let Some(host) = uri.authority().map(|authority| authority.as_str())
        && let Ok(host) = HeaderValue::from_str(host.rsplit('@').next().unwrap_or(host))
    {
        request.headers_mut().insert(HOST, host);
    }
    agree(request.headers_mut());
    request
}

/// Sends a request on a transport and waits for the upgrade. Returns the head of the response,
/// whose status is 101, and the transport. Bytes that arrived after the head are read first from
/// it.
///
/// There is no timeout. Dropping the future drops the transport.
///
/// ```
/// # async fn streams() -> Result<(), Box<dyn std::error::Error>> {
/// use spdy_tower::{Version, session, upgrade};
/// use tokio::net::TcpStream;
///
/// let request = upgrade::request(&"http://127.0.0.1:8080/streams".parse()?);
/// let transport = TcpStream::connect("127.0.0.1:8080").await?;
/// let (_response, transport) = upgrade::connect(transport, request).await?;
/// let (session, _incoming, driver) = session::client(transport, Version::V3_1, upgrade::config());
/// tokio::spawn(driver);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ConnectError`]. It contains the server's response if its status is not 101.
pub async fn connect<IO>(
    transport: IO,
    request: Request<()>,
) -> Result<(Response<()>, Upgraded), ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connect_to(transport, request, is_agreed).await
}

/// Sends a request to upgrade to any protocol, as [`connect`] does. `is_agreed` checks the fields
/// of a response with status 101.
///
/// # Errors
///
/// [`ConnectError`]. It contains the server's response if its status is not 101 or `is_agreed`
/// returns `false`.
pub async fn connect_to<IO>(
    transport: IO,
    request: Request<()>,
    is_agreed: impl FnOnce(&HeaderMap) -> bool,
) -> Result<(Response<()>, Upgraded), ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accepts = |response: &Response<_>| is_upgraded(response, is_agreed);
    switch(transport, request, accepts, MAX_REFUSAL).await
}

/// Does the same as [`connect`], but returns the head of a refusal without waiting for its body.
#[cfg(feature = "client")]
pub(crate) async fn connect_at_once<IO>(
    transport: IO,
    request: Request<()>,
) -> Result<(Response<()>, Upgraded), ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accepts = |response: &Response<_>| is_upgraded(response, is_agreed);
    switch(transport, request, accepts, 0).await
}

fn is_upgraded<B>(response: &Response<B>, is_agreed: impl FnOnce(&HeaderMap) -> bool) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS && is_agreed(response.headers())
}

/// Sends a request after which the transport carries another protocol, if `accepts` returns `true`
/// for the response. Of the body of another response, at most `kept` bytes are waited for.
pub(crate) async fn switch<IO>(
    transport: IO,
    request: Request<()>,
    accepts: impl FnOnce(&Response<Incoming>) -> bool,
    kept: usize,
) -> Result<(Response<()>, Upgraded), ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(transport)).await?;
    let exchange = async {
        let request = request.map(|()| Empty::<Bytes>::new());
        let mut response = sender.send_request(request).await?;
        if !accepts(&response) {
            return Err(refused(response, kept).await);
        }
        let transport = hyper::upgrade::on(&mut response).await?;
        Ok((response.map(drop), Upgraded::new(transport)))
    };
    // The exchange reports an error of the connection.
    let mut connection = pin!(connection.with_upgrades());
    let mut exchange = pin!(exchange);
    let mut is_over = false;
    poll_fn(move |cx: &mut Context<'_>| -> Poll<_> {
        is_over = is_over || connection.as_mut().poll(cx).is_ready();
        exchange.as_mut().poll(cx)
    })
    .await
}

/// Reads the body of a response that does not upgrade, up to a limit.
async fn refused(response: Response<Incoming>, limit: usize) -> ConnectError {
    let (head, mut body) = response.into_parts();
    let mut kept = BytesMut::new();
    // The bytes after a 101 belong to another protocol.
    while head.status != StatusCode::SWITCHING_PROTOCOLS
        && kept.len() < limit
        && let Some(Ok(frame)) = body.frame().await
    {
        kept.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
    }
    kept.truncate(limit);
    ConnectError::Refused(Box::new(Response::from_parts(head, kept.freeze())))
}

/// How much of the body of a response that does not upgrade is kept, in bytes.
pub const MAX_REFUSAL: usize = 64 * 1024;

/// Why there is no upgrade.
#[non_exhaustive]
pub enum ConnectError {
    /// The transport failed, or the response was not HTTP/1.1.
    Transport(Box<dyn Error + Send + Sync>),
    /// The server's response is not 101, or lacks the fields that go with it. Its body is cut at
    /// [`MAX_REFUSAL`] bytes.
    Refused(Box<Response<Bytes>>),
}

/// Shows the same as its [`Display`](fmt::Display), because fields and body of a response may be
/// secret.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => f.debug_tuple("Transport").field(error).finish(),
            Self::Refused(response) => f.debug_tuple("Refused").field(&response.status()).finish(),
        }
    }
}

impl From<hyper::Error> for ConnectError {
    fn from(error: hyper::Error) -> Self {
        Self::Transport(error.into())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(_) => f.write_str("request to upgrade failed"),
            Self::Refused(response) => {
                write!(f, "server refused to upgrade: {}", response.status())
            }
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Transport(error) => Some(&**error),
            Self::Refused(_) => None,
        }
    }
}
