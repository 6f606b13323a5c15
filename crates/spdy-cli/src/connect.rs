//! Connections, opened by spdy-tower's client.
//!
//! The protocol of an open connection is known, and is always one of the protocols in the
//! [`Offer`].

use std::{
    error::Error,
    io, iter,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use spdy_tower::{
    BoxError, Protocol,
    client::{self, Client, ConnectorError, FetchError, Plain, ResponseBody},
    session::{Config, ForeignProtocol, Session, SessionError},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    counted::{Tcp, Wire},
    failure::{Again, Exit, Failure, sentence},
    flags::Reach,
    http2,
    offer::Offer,
    origin::Origin,
    route::Route,
    tls, wire,
};

/// Opens connections.
pub(crate) struct Connector {
    offer: Offer,
    connector: client::Connector,
    config: Config,
    tls: Arc<ClientConfig>,
    timeout: Duration,
    routes: Arc<[Route]>,
    verbose: bool,
}

impl Connector {
    /// Creates a connector. Root certificates are loaded only if `has_tls` says that a URL is
    /// https.
    pub(crate) fn new(offer: Offer, reach: &Reach, has_tls: bool) -> Result<Self, Failure> {
        let mut config = Config::default();
        // Keep-alive detects a server that has vanished without closing the connection.
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        config.timeouts.close = LINGER;
        config.timeouts.linger = LINGER;
        let tls = if has_tls {
            tls::config(reach)?
        } else {
            tls::without_roots()
        };
        if reach.verbose {
            wire::show();
        }
        let plain = match offer.plain {
            Protocol::Spdy(version) => Plain::Spdy(version),
            Protocol::Http2 => Plain::Http2,
            Protocol::Http1 if offer.upgrade => Plain::Upgrade,
            Protocol::Http1 => Plain::Http1,
        };
        let connector = client::Connector::new(tls.clone())
            .offer(&offer.alpn)
            .plain(plain)
            .upgrade_over_tls(offer.upgrade)
            .timeout(reach.connect_timeout);
        Ok(Self {
            offer,
            connector,
            config,
            tls: Arc::new(tls),
            timeout: reach.connect_timeout,
            routes: reach.routes(),
            verbose: reach.verbose,
        })
    }

    /// Sets the receive windows, in bytes, of each stream and of the session.
    pub(crate) const fn windows(mut self, stream: u32, session: u32) -> Self {
        self.config.limits.stream_window = stream;
        self.config.limits.session_window = session;
        self
    }

    /// Opens a new connection. Two calls never share one.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let start = Instant::now();
        let wire = Arc::new(Wire::default());
        let (open, closed) = mpsc::channel(1);
        let connector = self.connector.clone().session(self.config.clone());
        let client = Client::new(connector.dial(Tcp {
            wire: Arc::clone(&wire),
            open,
            routes: Arc::clone(&self.routes),
            verbose: self.verbose,
        }));
        let connected = client.connect(&origin.uri()).await;
        let connected = connected.map_err(|error| self.failure(origin, &error))?;
        let protocol = connected.protocol();
        let is_spdy = matches!(protocol, Protocol::Spdy(_));
        if self.offer.upgrade && !self.offer.falls_back && !is_spdy {
            let message = format!("{origin} does not upgrade to SPDY/3.1");
            return Err(Failure::new(Exit::Connect, message));
        }
        Ok(Connection {
            requests: self.requests(client),
            session: connected.session().cloned(),
            http2: None,
            protocol,
            wire,
            took: start.elapsed(),
            closed,
        })
    }

    /// Opens a new connection whose requests need not go through [`Requests`]. If HTTP/2 is offered
    /// it is the only protocol.
    pub(crate) async fn connect_directly(&self, origin: &Origin) -> Result<Connection, Failure> {
        // With `verbose`, `Requests` shows the heads.
        if self.offer.plain != Protocol::Http2 || self.verbose {
            return self.connect(origin).await;
        }
        let start = Instant::now();
        let wire = Arc::new(Wire::default());
        let (open, closed) = mpsc::channel(1);
        let tcp = Tcp {
            wire: Arc::clone(&wire),
            open,
            routes: Arc::clone(&self.routes),
            verbose: false,
        };
        let opened = http2::open(&tcp, &self.tls, origin, self.timeout).await;
        let requests = opened.map_err(|error| self.failure(origin, &error))?;
        let protocol = Protocol::Http2;
        let client = Client::new(self.connector.clone().dial(tcp));
        Ok(Connection {
            requests: self.requests(client),
            session: None,
            http2: Some(requests),
            protocol,
            wire,
            took: start.elapsed(),
            closed,
        })
    }

    const fn requests(&self, client: Client) -> Requests {
        let verbose = self.verbose;
        Requests { client, verbose }
    }

    fn failure(&self, origin: &Origin, error: &ConnectorError) -> Failure {
        let cause: &(dyn Error + 'static) = match error {
            ConnectorError::Protocol => {
                let offered: Vec<_> = self.offer.alpn.iter().map(|it| it.token()).collect();
                let offered = offered.join(", ");
                let message = format!("{origin} does not support {offered}: {OTHERS}");
                return Failure::new(Exit::Connect, message);
            }
            ConnectorError::Transport(error) => &**error,
            error => error,
        };
        let message = format!("cannot connect to {origin}: {}", cured(cause));
        Failure::new(Exit::Connect, message).again(again(error))
    }
}

/// What to try if a server refuses the offered protocols.
const OTHERS: &str = "try --http2 or --http1, or leave out --version";

/// An open connection.
pub(crate) struct Connection {
    pub(crate) requests: Requests,
    /// The session, if the protocol is SPDY.
    pub(crate) session: Option<Session>,
    /// The connection itself, if [`Connector::connect_directly`] has opened it and the protocol is
    /// HTTP/2.
    pub(crate) http2: Option<SendRequest<Bytes>>,
    pub(crate) protocol: Protocol,
    pub(crate) wire: Arc<Wire>,
    /// The time that it took to connect.
    pub(crate) took: Duration,
    /// Ends when the transport is closed.
    closed: mpsc::Receiver<()>,
}

impl Connection {
    /// Closes the connection, and waits a short time for the server to close its side.
    pub(crate) async fn end(mut self) {
        drop((self.requests, self.session, self.http2));
        _ = timeout(2 * LINGER, self.closed.recv()).await;
    }
}

/// Sends requests over a connection. When that connection has ended, or a request is for another
/// origin, the client opens another one.
#[derive(Clone)]
pub(crate) struct Requests {
    client: Client,
    verbose: bool,
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
        if self.verbose {
            let connected = self.client.connect(request.uri()).await;
            let connected = connected.map_err(|error| refused(&error.into()))?;
            wire::sent(connected.protocol(), &request);
        }
        let response = self.client.send(request).await;
        let response = response.map_err(|error| refused(&error))?;
        if self.verbose {
            wire::received(protocol(&response), &response);
        }
        Ok(response)
    }
}

/// Returns the protocol over which a response has come.
pub(crate) fn protocol<B>(response: &Response<B>) -> Protocol {
    let protocol = response.extensions().get();
    *protocol.expect("the client records the protocol of each response")
}

fn refused(error: &FetchError) -> Failure {
    let (exit, again) = match error {
        FetchError::Connect(error) => (Exit::Connect, again(error)),
        error if error.is_retry_safe() => (Exit::Exchange, Again::Safely),
        _ => (Exit::Exchange, Again::Perhaps),
    };
    Failure::new(exit, reason(error)).again(again)
}

/// Returns whether a connection may be possible later. A certificate stays as it is.
fn again(error: &ConnectorError) -> Again {
    let mut causes = iter::successors(Some(error as &(dyn Error + 'static)), |&it| it.source());
    match error {
        ConnectorError::Transport(_) if causes.all(|cause| !is_certificate(cause)) => Again::Safely,
        _ => Again::Never,
    }
}

fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// Returns the reason why a request or the body of its response failed.
///
/// The text leaves out the outermost message, which only says that the request failed.
pub(crate) fn reason(error: &FetchError) -> String {
    match error.source() {
        Some(cause) => cured(cause),
        None => sentence(error),
    }
}

/// Returns an error as a sentence, with what to do about it if that is known.
fn cured(error: &(dyn Error + 'static)) -> String {
    let mut causes = iter::successors(Some(error), |&error| error.source());
    let text = sentence(error);
    match causes.find_map(cure) {
        Some(cure) => format!("{text}: {cure}"),
        None => text,
    }
}

/// Returns what to do about an error.
fn cure(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(SessionError::Foreign(protocol)) = error.downcast_ref() {
        return Some(match protocol {
            ForeignProtocol::Http1 => "try --http1",
            ForeignProtocol::Http2 => "try --http2",
            ForeignProtocol::Tls => "try https://",
            _ => return None,
        });
    }
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(reason) => Some(match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "trust it by --cacert FILE, or accept any certificate by --insecure"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "use a name of the certificate in the URL, and --connect-to for the address"
            }
            _ => "accept any certificate by --insecure",
        }),
        rustls::Error::InvalidMessage(_) => Some("it does not speak TLS there: try http://"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("give a certificate by --cert")
        }
        _ => None,
    }
}

/// Returns the error of TLS that this error is or contains.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref()?.downcast_ref(),
        None => error.downcast_ref(),
    }
}

/// How long the session reads the transport after it has closed its own side.
const LINGER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_is_found_below_other_errors() {
        let missing = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let error = ConnectorError::from(io::Error::other(missing));
        assert!(cured(&error).ends_with(": give a certificate by --cert"));
        let error = ConnectorError::from(io::Error::other("no cure"));
        assert!(cured(&error).ends_with("failed: no cure"));
    }
}
