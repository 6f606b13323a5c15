//! The API server: connections to it, and the credentials for it.
//!
//! They use HTTP/1.1, so that each request has its own. An API server limits the requests on a
//! connection over HTTP/2, and a few watches of one user would hold up the requests of all others.

mod transport;
mod trust;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION, uri::PathAndQuery,
};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error as SendError},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::pki_types::ServerName;
use spdy_kube::BoxError;
use spdy_tower::{Http1Io, client::Lookups};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use self::transport::Connector;
pub(crate) use self::transport::Transport;
use crate::{Error, Kubeconfig, kubeconfig::Tls};

/// A body that is passed on as it arrives.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The API server.
pub(crate) struct Upstream {
    place: Arc<Place>,
    /// The URL of the server, with the path in front of the paths of Kubernetes, without a `/` at
    /// its end.
    server: Uri,
    authorization: Option<HeaderValue>,
    client: Client<Connector, Body>,
}

/// Where connections lead, and how they are protected.
pub(crate) struct Place {
    host: String,
    port: u16,
    lookups: Lookups,
    tls: Option<Secured>,
    limit: Duration,
}

struct Secured {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Upstream {
    pub(crate) fn new(config: &Kubeconfig, limit: Duration) -> Result<Self, Error> {
        let server = config.server.clone();
        let host = server.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let is_tls = config.tls.is_some();
        let port = server.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = config.tls.as_ref().map(|tls| Secured::new(tls, &host));
        let authorization = config.token.as_deref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::new("token contains characters that no token has"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let place = Arc::new(Place {
            host,
            port,
            lookups: Lookups::default(),
            tls: tls.transpose()?,
            limit,
        });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Connector(Arc::clone(&place)));
        Ok(Self {
            place,
            server,
            authorization: authorization.transpose()?,
            client,
        })
    }

    /// Returns the URL of a path at the API server.
    pub(crate) fn url(&self, target: &str) -> Result<Uri, http::Error> {
        let prefix = self.server.path().trim_end_matches('/');
        let target: PathAndQuery = format!("{prefix}{target}").parse()?;
        let mut parts = self.server.clone().into_parts();
        parts.path_and_query = Some(target);
        Ok(Uri::from_parts(parts)?)
    }

    /// Adds the credentials of the bastion.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
    }

    /// Sends a request, and returns the response with the body still to come.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        self.client.request(request).await
    }

    /// Returns what makes connections for requests with streams.
    pub(crate) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }
}

impl Place {
    /// Makes a connection, within the limit.
    pub(crate) async fn connect(&self) -> io::Result<TokioIo<Transport>> {
        let connected = timeout(self.limit, self.connect_now()).await;
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "API server cannot be reached in time",
            )
        };
        connected.unwrap_or_else(|_| Err(late())).map(TokioIo::new)
    }

    async fn connect_now(&self) -> io::Result<Transport> {
        let addresses = self.lookups.find(&self.host, self.port).await?;
        let socket = TcpStream::connect(&addresses[..]).await?;
        socket.set_nodelay(true)?;
        crate::listener::keep_alive(&socket);
        let Some(tls) = &self.tls else {
            return Ok(Transport::Plain(Http1Io::new(socket)));
        };
        let secured = tls.connector.connect(tls.name.clone(), socket).await?;
        Ok(Transport::Tls(Box::new(Http1Io::new(secured))))
    }
}

impl Secured {
    fn new(tls: &Tls, host: &str) -> Result<Self, Error> {
        let name = tls.name.as_deref().unwrap_or(host);
        let invalid = |error| Error::because("name of the API server is not valid", error);
        let name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
        let mut config = trust::client_config(tls)?;
        config.alpn_protocols = vec![crate::tls::HTTP1.to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}
