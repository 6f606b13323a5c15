//! Requests over a connection of HTTP/2, by the crate h2 itself.

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{HeaderValue, Request, header::CONTENT_LENGTH};

use super::lane::{Answer, Outcome, is_repeatable};
use crate::{connect::Payload, failure::sentence};

/// A connection, and the request without its body.
pub(super) struct Exchanges {
    requests: SendRequest<Bytes>,
    head: Request<()>,
    body: Option<Bytes>,
    is_repeatable: bool,
}

impl Exchanges {
    pub(super) fn new(
        requests: SendRequest<Bytes>,
        request: &Request<Payload>,
        body: Option<Bytes>,
    ) -> Self {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        *head.version_mut() = http::Version::HTTP_2;
        if let Some(body) = &body {
            let length = HeaderValue::from(body.len());
            head.headers_mut().insert(CONTENT_LENGTH, length);
        }
        Self {
            is_repeatable: is_repeatable(request, body.as_ref()),
            requests,
            head,
            body,
        }
    }

    /// Sends the request once.
    pub(super) async fn one(&self) -> Outcome {
        let Ok(requests) = self.requests.clone().ready().await else {
            return Outcome::Unsent;
        };
        match self.answer(requests).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) if is_unprocessed(&error) => Outcome::Unsent,
            Err(error) if self.is_repeatable && (error.is_io() || error.is_go_away()) => {
                Outcome::Unsent
            }
            Err(error) => Outcome::Failed(sentence(&error)),
        }
    }

    async fn answer(&self, mut requests: SendRequest<Bytes>) -> Result<Answer, h2::Error> {
        let (response, mut send) = requests.send_request(self.head.clone(), self.body.is_none())?;
        if let Some(body) = &self.body {
            // h2 sends it as the windows permit. It is not copied.
            send.send_data(body.clone(), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = 0;
        while let Some(piece) = body.data().await {
            let length = piece?.len();
            bytes += length as u64;
            body.flow_control().release_capacity(length)?;
        }
        Ok((head.status.as_u16(), bytes))
    }
}

/// Returns whether the server has certainly not acted on the request.
fn is_unprocessed(error: &h2::Error) -> bool {
    let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
    let is_left_out = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    error.is_remote() && (is_refused || is_left_out)
}
