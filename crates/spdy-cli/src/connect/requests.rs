//! Requests over the connection of one client.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use spdy_frame::Version;
use spdy_tower::{
    BoxError, Protocol,
    client::{Client, FetchError, Proxy, ResponseBody},
};

use super::cures::{again, reason};
use crate::{
    counted::Wire,
    failure::{Again, Exit, Failure},
    proxies::Proxies,
    speech, wire,
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
    /// Whether the command can speak nothing but SPDY.
    pub(super) is_spdy_alone: bool,
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
            None if exit == Exit::Exchange => {
                Failure::new(exit, self.heard(url, reason(error))).again(again)
            }
            None => Failure::new(exit, reason(error)).again(again),
        }
    }

    /// Returns why a connection was lost, which is for this reason unless the server is known to
    /// speak another protocol.
    pub(crate) fn lost(&self, url: &Uri, reason: String) -> String {
        self.foreign(url).unwrap_or_else(|| self.heard(url, reason))
    }

    /// Adds to the reason why the time is over what the server is known to speak, or what it may
    /// mean that it has sent nothing. In SPDY/2 a server need not send anything before it responds.
    pub(crate) fn late(&self, url: &Uri, reason: String) -> String {
        match self.foreign(url) {
            Some(foreign) => format!("{reason}: {foreign}"),
            None if self.plain == Protocol::Spdy(Version::V2) => reason,
            None => self.heard(url, reason),
        }
    }

    /// Adds to a reason what a server that has sent nothing may mean by that.
    fn heard(&self, url: &Uri, reason: String) -> String {
        match self.plain {
            plain @ (Protocol::Spdy(_) | Protocol::Http2) if self.wire.is_mute(url) => {
                let cure = speech::cure_of_silence(self.is_spdy_alone);
                format!(
                    "{reason}: the server has sent nothing, so it might not speak {plain} without \
                     TLS: {cure}"
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
        speech.instead_of(self.plain, self.is_spdy_alone)
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

#[cfg(test)]
mod tests {
    use spdy_tower::{
        client::{Connector, Error},
        session::{SessionError, StreamError, Timeout},
    };

    use super::*;
    use crate::tls;

    fn requests(plain: Protocol) -> Requests {
        Requests {
            client: Client::new(Connector::new(tls::without_roots())),
            wire: Arc::default(),
            proxies: None,
            plain,
            is_spdy_alone: false,
            verbose: false,
        }
    }

    /// A server of HTTP/1.1 can wait for the end of a line.
    #[test]
    fn a_server_that_has_sent_nothing_for_long_might_speak_another_protocol() {
        let url = Uri::from_static("http://a.test/");
        let silent = SessionError::TimedOut(Timeout::KeepAlive);
        let error = FetchError::Spdy(Error::Stream(StreamError::Session(silent)));
        let requests = requests(Protocol::Spdy(Version::V3_1));
        let before = requests.refused(&url, &error).to_string();
        requests.wire.begin("a.test", 80);
        let failure = requests.refused(&url, &error).to_string();
        let why = "the server has sent nothing, so it might not speak SPDY/3.1 without TLS: try \
                   --http1 or https://";
        assert_eq!(failure, format!("{before}: {why}"));
    }
}
