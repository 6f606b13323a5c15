//! One request and its response, on the client's side.

use std::{
    future::poll_fn,
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use http::{Method, Response};
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Opening, RecvStream, SendStream, Session};

use super::Error;
use crate::{
    Body, BoxError, Tunnel,
    body::FaultNotice,
    http::{InvalidRequest, Origin, framing::is_bodyless, read_response},
    sending::{Answer, Failure, Pump, Unsendable},
};

/// A request whose stream is being opened.
pub(super) struct Exchange<B> {
    /// Keeps the session alive until the stream is open.
    pub(super) session: Session,
    pub(super) version: Version,
    pub(super) method: Method,
    /// Whether the head has FIN.
    pub(super) fin: bool,
    pub(super) opening: Opening,
    pub(super) asked: Option<Arc<Origin>>,
    pub(super) body: B,
    /// The length that the head announces.
    pub(super) announced: Option<u64>,
}

impl<B> Exchange<B>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Waits for the head of the response, and sends the body meanwhile. A task sends the rest of
    /// the body.
    ///
    /// If nothing was taken from the body of the request, the error contains it.
    pub(super) async fn run(self) -> Result<Response<Body>, (Error, Option<B>)> {
        let Self {
            session,
            version,
            method,
            fin,
            opening,
            asked,
            body,
            announced,
        } = self;
        let (mut receive, send) = match opening.await {
            Ok(stream) => stream.split(),
            Err(error) => return Err((error.into(), Some(body))),
        };
        drop(session);
        if fin || method == Method::CONNECT {
            let block = match receive.response_headers().await {
                Ok(block) => block,
                Err(error) => return Err((error.into(), Some(body))),
            };
            let head = head(version, &block);
            return match head {
                Ok(head) if method == Method::CONNECT => Ok(tunnel(version, head, receive, send)),
                Ok(head) => Ok(response(version, &method, head, receive, asked)),
                Err(error) => Err((reset(receive, error), None)),
            };
        }
        let mut upload: Upload = Box::pin(upload(version, send, body, announced));
        let (block, is_sent) = match reply(&mut receive, &mut upload).await {
            Ok(replied) => replied,
            Err(error) => return Err((error, None)),
        };
        match head(version, &block) {
            Ok(head) => {
                if !is_sent {
                    tokio::spawn(upload);
                }
                Ok(response(version, &method, head, receive, asked))
            }
            Err(error) => Err((reset(receive, error), None)),
        }
    }
}

/// Sends the body of a request. Dropping the future resets the stream.
type Upload = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

async fn upload<B>(
    version: Version,
    stream: SendStream,
    body: B,
    announced: Option<u64>,
) -> Result<(), Failure>
where
    B: http_body::Body<Error: Into<BoxError>>,
{
    let mut answer = Answer::Begun(stream);
    let size = body.size_hint().exact();
    let mut pump = pin!(Pump::new(None, size, body).announcing(announced));
    poll_fn(|cx| {
        let fault = &mut FaultNotice::Never;
        match pump.as_mut().poll(cx, version, &mut answer, fault) {
            // The body belongs to the caller, and so does its panic.
            Poll::Ready(Err(Failure::Panic(panic))) => resume_unwind(panic),
            Poll::Pending => answer.poll_closed(cx).map(Failure::Gone).map(Err),
            sent => sent,
        }
    })
    .await
}

/// Waits for SYN_REPLY while the body is sent. Returns whether the body was sent completely.
async fn reply(
    receive: &mut RecvStream,
    upload: &mut Upload,
) -> Result<(HeaderBlock, bool), Error> {
    let mut is_sent = false;
    poll_fn(|cx| {
        if let Poll::Ready(block) = receive.poll_response_headers(cx) {
            return Poll::Ready(Ok((block?, is_sent)));
        }
        if !is_sent && let Poll::Ready(sent) = upload.as_mut().poll(cx) {
            is_sent = true;
            match sent {
                // The receiving half reports what happened to the stream.
                Ok(()) | Err(Failure::Gone(_)) => {}
                Err(Failure::Application(error)) => return Poll::Ready(Err(Error::Body(error))),
                Err(Failure::Response(Unsendable::Length)) => {
                    return Poll::Ready(Err(Error::Body(WRONG_LENGTH.into())));
                }
                // The head was sent already, so only a trailer can be too long.
                Err(Failure::Response(_)) => {
                    return Poll::Ready(Err(Error::Request(InvalidRequest::TrailerTooLong)));
                }
                Err(Failure::Fault(_) | Failure::Panic(_)) => {}
            }
            return receive
                .poll_response_headers(cx)
                .map(|block| Ok((block?, is_sent)));
        }
        Poll::Pending
    })
    .await
}

fn head(version: Version, block: &HeaderBlock) -> Result<Response<()>, Error> {
    read_response::read(version, block, false).map_err(Error::Response)
}

fn reset(receive: RecvStream, error: Error) -> Error {
    receive.reset(RstStatus::PROTOCOL_ERROR);
    error
}

fn response(
    version: Version,
    method: &Method,
    head: Response<()>,
    receive: RecvStream,
    asked: Option<Arc<Origin>>,
) -> Response<Body> {
    let is_bodyless = is_bodyless(method, head.status());
    let body = Body::response(receive, version, is_bodyless, head.headers(), asked);
    head.map(|()| body)
}

/// Returns the response to CONNECT, with a tunnel if its status opens one.
fn tunnel(
    version: Version,
    mut head: Response<()>,
    receive: RecvStream,
    mut send: SendStream,
) -> Response<Body> {
    if head.status().is_success() {
        Tunnel::new(receive, send).attach(head.extensions_mut());
        return head.map(|()| Body::empty());
    }
    // The stream may have ended already. Then there is nothing to send.
    _ = send.finish();
    response(version, &Method::CONNECT, head, receive, None)
}

/// Why a body that does not have the announced length is an error.
pub(super) const WRONG_LENGTH: &str = "request body length does not match content-length";
