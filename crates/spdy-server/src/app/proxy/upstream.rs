//! The application behind a proxy: where it is, and the connections to it.

use std::{
    error::Error,
    fmt, io,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::debug;

use super::{Channel, Failure, Proxy, Upload};
use crate::{idle::Idle, socket::Socket};

/// Where an application is and what it speaks. Written as `http://HOST:PORT` for HTTP/1.1, `h2://HOST:PORT` for HTTP/2
/// without TLS, or `unix:/PATH` for HTTP/1.1 at a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    place: Place,
    http2: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A host and a port. Names are looked up for each connection.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Upstream {
    pub(super) const fn is_http2(&self) -> bool {
        self.http2
    }

    /// What stands for the application where a host is wanted.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".into(),
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Socket> {
        match &self.place {
            Place::Tcp(host, port) => TcpStream::connect((host.as_str(), *port))
                .await
                .map(Socket::tcp),
            #[cfg(unix)]
            Place::Unix(path) => tokio::net::UnixStream::connect(path)
                .await
                .map(Socket::Unix),
            #[cfg(not(unix))]
            Place::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            let place = Place::Unix(path.into());
            return Ok(Self {
                place,
                http2: false,
            });
        }
        let uri: Uri = text.parse().map_err(|_| UpstreamError)?;
        let http2 = match uri.scheme_str() {
            Some("http") => false,
            Some("h2") => true,
            _ => return Err(UpstreamError),
        };
        let authority = uri.authority().ok_or(UpstreamError)?;
        if authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(UpstreamError);
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            rest => rest
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .ok_or(UpstreamError)?,
        };
        let host = authority.host().trim_matches(['[', ']']);
        Ok(Self {
            place: Place::Tcp(host.to_owned(), port),
            http2,
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Tcp(..) if self.http2 => write!(f, "h2://{}", self.authority()),
            Place::Tcp(..) => write!(f, "http://{}", self.authority()),
        }
    }
}

/// The text is no [`Upstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamError;

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an application is http://HOST:PORT, h2://HOST:PORT or unix:/PATH, without a path behind the port")
    }
}

impl Error for UpstreamError {}

/// The connections to an application.
///
/// HTTP/1.1 carries one request at a time on each of them, and those at rest are used again. HTTP/2 has one connection
/// for all requests.
#[derive(Debug)]
pub(super) struct Pool {
    proxy: Proxy,
    places: Arc<Semaphore>,
    resting: Arc<Mutex<Vec<Resting>>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Upload>>>,
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Resting {
    sender: http1::SendRequest<Upload>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(proxy: Proxy) -> Self {
        let places = proxy.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            proxy,
            places: Arc::new(Semaphore::new(places)),
            resting: Arc::default(),
            shared: tokio::sync::Mutex::default(),
        }
    }

    /// Sends a request and waits for the head of the answer. Dropped before that, the request ends at the application.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Failure> {
        if self.proxy.upstream.http2 {
            return self.send_http2(request).await;
        }
        let place = timeout(
            self.proxy.connect_timeout,
            Arc::clone(&self.places).acquire_owned(),
        )
        .await
        .map_err(|_| Failure::Busy)?
        .expect("the semaphore is never closed");
        self.send_http1(request, place).await
    }

    async fn send_http1(
        &self,
        mut request: Request<Upload>,
        place: OwnedSemaphorePermit,
    ) -> Result<Response<Incoming>, Failure> {
        while let Some(mut sender) = self.take_resting() {
            let again = again(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.give_back(sender, place);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => request = or_again(Failure::of(error.into_error()), again)?,
                },
            }
        }
        let mut sender = self.connect_http1().await?;
        let response = sender.send_request(request).await.map_err(Failure::of)?;
        self.give_back(sender, place);
        Ok(response)
    }

    /// Finds a connection that is still of use; the one that has rested for the shortest time.
    fn take_resting(&self) -> Option<http1::SendRequest<Upload>> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Resting { sender, since }) = resting.pop() {
            if since.elapsed() > MAX_REST {
                // All others have rested for longer.
                resting.clear();
                return None;
            }
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps the connection for the next request, once the answer was read to its end.
    fn give_back(&self, mut sender: http1::SendRequest<Upload>, place: OwnedSemaphorePermit) {
        let resting = Arc::clone(&self.resting);
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let since = Instant::now();
                let mut resting = resting.lock().unwrap_or_else(PoisonError::into_inner);
                resting.push(Resting { sender, since });
            }
            drop(place);
        });
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<Upload>, Failure> {
        let io = self.connect().await?;
        let (sender, connection) = http1::handshake(io).await.map_err(Failure::of)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the application failed");
            }
        });
        Ok(sender)
    }

    async fn send_http2(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Response<Incoming>, Failure> {
        for _ in 1..ATTEMPTS {
            let mut sender = self.shared_sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                // The application ends connections by GOAWAY, and takes what comes on the next one.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::of(error.into_error())),
                },
            }
        }
        let mut sender = self.shared_sender().await?;
        sender.send_request(request).await.map_err(Failure::of)
    }

    async fn shared_sender(&self) -> Result<http2::SendRequest<Upload>, Failure> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let io = self.connect().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .handshake(io)
            .await
            .map_err(Failure::of)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the application failed");
            }
        });
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<TokioIo<Idle<Channel>>, Failure> {
        let connecting = self.proxy.connect();
        let io = timeout(self.proxy.connect_timeout, connecting)
            .await
            .map_err(|_| Failure::ConnectTimeout)?
            .map_err(Failure::Connect)?;
        Ok(TokioIo::new(Idle::new(
            io,
            self.proxy.answer_timeout,
            self.proxy.answer_timeout,
        )))
    }
}

/// A copy of a request that may be sent twice: it changes nothing and has no body.
fn again(request: &Request<Upload>) -> Option<Request<Upload>> {
    let is_whole = http_body::Body::is_end_stream(request.body());
    if !is_whole || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(Upload::empty());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    *copy.version_mut() = request.version();
    Some(copy)
}

/// Takes the copy when the connection broke: the application may close one that rests in the very moment when it is
/// used.
fn or_again(failure: Failure, copy: Option<Request<Upload>>) -> Result<Request<Upload>, Failure> {
    match (failure, copy) {
        (Failure::Broken(_), Some(copy)) => Ok(copy),
        (failure, _) => Err(failure),
    }
}

/// How long a connection may rest and is used again. Applications close theirs after some time, mostly a longer one.
const MAX_REST: Duration = Duration::from_secs(30);

/// How often a request is offered to HTTP/2 connections that turn out to be ending.
const ATTEMPTS: usize = 3;

/// How often an HTTP/2 application is asked for a sign of life while requests are open.
const PING_INTERVAL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_read_as_they_are_written() {
        for text in [
            "http://127.0.0.1:8080",
            "http://app.internal:80",
            "http://[::1]:3000",
            "h2://localhost:50051",
            "unix:/run/app.sock",
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        let short: Upstream = "http://app/".parse().unwrap();
        assert_eq!(short.to_string(), "http://app:80");
        for text in [
            "",
            "unix:",
            "app:80",
            "https://app",
            "http://",
            "http://app/path",
            "http://app/?query",
            "http://user@app",
            "http://app:99999",
        ] {
            assert_eq!(text.parse::<Upstream>(), Err(UpstreamError), "{text}");
        }
    }
}
