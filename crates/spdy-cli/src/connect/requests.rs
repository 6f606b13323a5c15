//! Requests over the connection of one client.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use spdy_tower::{
    BoxError, Protocol,
    client::{Client, FetchError, Proxy, ResponseBody},
};

use super::cures::{again, reason};
use crate::{
    counted::Wire,
    failure::{Again, Exit, Failure},
    proxies::Proxies,
    wire,
};

/// Sends requests over a connection. When that connection has ended, or a request is for another
/// origin, the client opens another one.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(super) client: Client,
    pub(super) wire: Arc<Wire>,
    pub(super) proxies: Option<Arc<Proxies>>,
    /// What the client speaks without TLS.
    pub(super) plain: Protocol,
    pub(super) verbose: bool,
}

/// The body of a request.
pub(crate) type Payload = Full<Bytes>;

impl Requests {
    /// Sends a request, and returns the response when its head has arrived.
    pub(crate) async fn send<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, Failure>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let url = request.uri().clone();
        if self.verbose {
            let connected = self.client.connect(&url).await;
            let connected = connected.map_err(|error| self.refused(&url, &error.into()))?;
            wire::sent(connected.protocol(), &request);
        }
        let response = self.client.send(request).await;
        let response = response.map_err(|error| self.refused(&url, &error))?;
        self.wire.answered(&url);
        if self.verbose {
            wire::received(protocol(&response), &response);
        }
        Ok(response)
    }

    fn refused(&self, url: &Uri, error: &FetchError) -> Failure {
        let (exit, again) = match error {
            FetchError::Connect(error) => (Exit::Connect, again(error)),
            error if error.is_retry_safe() => (Exit::Exchange, Again::Safely),
            _ => (Exit::Exchange, Again::Perhaps),
        };
        match self.foreign(url) {
            // A server that has answered before may do so again.
            Some(foreign) if self.wire.has_answered(url) => {
                Failure::new(exit, foreign).again(again)
            }
            Some(foreign) => Failure::new(exit, foreign),
            None if exit == Exit::Exchange && !error.is_timeout() => {
                Failure::new(exit, self.heard(url, reason(error))).again(again)
            }
            None => Failure::new(exit, reason(error)).again(again),
        }
    }

    /// Adds to the reason of a failure what a server that has closed the connection without a word
    /// may mean by that.
    pub(crate) fn heard(&self, url: &Uri, reason: String) -> String {
        match self.plain {
            plain @ (Protocol::Spdy(_) | Protocol::Http2) if self.wire.is_mute(url) => {
                format!(
                    "{reason}: the server has sent nothing, so it might not speak {plain} without \
                     TLS: try --http1 or https://"
                )
            }
            _ => reason,
        }
    }

    /// Returns what is wrong and what to do, if the server of a URL without TLS has said that it
    /// speaks another protocol. A proxy speaks first, so nothing is known of a server behind it.
    pub(crate) fn foreign(&self, url: &Uri) -> Option<String> {
        let is_direct = url.scheme_str() == Some("http") && self.proxy(url).is_none();
        let speech = self.wire.speech(url).filter(|_| is_direct)?;
        speech.instead_of(self.plain)
    }

    pub(super) fn proxy(&self, url: &Uri) -> Option<Proxy> {
        self.proxies.as_ref()?.of(url).ok().flatten()
    }
}

/// Returns the protocol over which a response has come.
pub(crate) fn protocol<B>(response: &Response<B>) -> Protocol {
    let protocol = response.extensions().get();
    *protocol.expect("the client records the protocol of each response")
}
