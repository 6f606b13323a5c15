//! The address of the application behind a proxy, and its protocol.

use std::{error::Error, fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

use axum::http::Uri;
use spdy_tower::client::{Lookups, connect_any};

use crate::socket::Socket;

/// The address of an application and its protocol. Written as `http://HOST:PORT` for HTTP/1.1,
/// `h2://HOST:PORT` for HTTP/2 in plain text, or `unix:/PATH` for HTTP/1.1 over a Unix socket.
///
/// With one of the features `tls`, `aws-lc-rs` and `rustls` also `https://HOST:PORT` for HTTP/1.1
/// over TLS, and `h2s://HOST:PORT` for HTTP/2 over TLS: see [`Proxy::tls`](super::Proxy). Without a
/// port it is 443, and 80 without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    place: Place,
    http2: bool,
    tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A host and a port. The name is looked up for each connection.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Upstream {
    /// Returns whether connections to the application use TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) const fn is_http2(&self) -> bool {
        self.http2
    }

    /// Returns the scheme of requests that name it.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Returns the name or the address of the host. That of a Unix socket is `localhost`.
    #[cfg(feature = "rustls")]
    pub(super) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(host, _) => host,
            Place::Unix(_) => LOCALHOST,
        }
    }

    /// Returns whether the requests for both addresses have the same form, so that each can go to
    /// either.
    pub(super) const fn speaks_like(&self, other: &Self) -> bool {
        // Requests of HTTP/1.1 do not name their scheme.
        self.http2 == other.http2 && (!self.http2 || self.tls == other.tls)
    }

    /// Returns the host to use if the client does not name one.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => LOCALHOST.into(),
        }
    }

    /// Returns whether an error says that nothing listens at the address, so that an application
    /// which starts again might listen soon.
    pub(super) fn is_refusal(&self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            // Many applications remove their Unix socket when they end. A connect to one whose
            // queue is full does not wait.
            io::ErrorKind::NotFound | io::ErrorKind::WouldBlock => {
                matches!(self.place, Place::Unix(_))
            }
            _ => false,
        }
    }

    /// Opens a connection to the first address of the host that answers, or to the Unix socket.
    pub(super) async fn connect(&self, lookups: &Lookups) -> io::Result<Socket> {
        match &self.place {
            Place::Tcp(host, port) => connect_first(lookups.find(host, *port).await?).await,
            #[cfg(unix)]
            Place::Unix(path) => tokio::net::UnixStream::connect(path)
                .await
                .map(Socket::Unix),
            #[cfg(not(unix))]
            Place::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Connects to the first address of a host that answers.
async fn connect_first(addresses: Vec<SocketAddr>) -> io::Result<Socket> {
    connect_any(addresses).await.map(Socket::tcp)
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            let place = Place::Unix(path.into());
            return Ok(Self {
                place,
                http2: false,
                tls: false,
            });
        }
        let uri: Uri = text.parse().map_err(|_| UpstreamError)?;
        let (http2, tls) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("h2") => (true, false),
            Some("https") if HAS_TLS => (false, true),
            Some("h2s") if HAS_TLS => (true, true),
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
            Some("") if tls => 443,
            Some("") => 80,
            rest => rest
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .ok_or(UpstreamError)?,
        };
        let host = authority.host().trim_matches(['[', ']']);
        Ok(Self {
            place: Place::Tcp(host.to_owned(), port),
            http2,
            tls,
        })
    }
}

const LOCALHOST: &str = "localhost";

/// Whether this build can make connections over TLS.
const HAS_TLS: bool = cfg!(feature = "rustls");

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.http2, self.tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "h2",
            (true, true) => "h2s",
        };
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Tcp(..) => write!(f, "{scheme}://{}", self.authority()),
        }
    }
}

/// The error for a text that is not a valid [`Upstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamError;

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if HAS_TLS {
            "invalid application: use http://HOST:PORT, https://HOST:PORT, h2://HOST:PORT, \
             h2s://HOST:PORT or unix:/PATH, without a path after the port"
        } else {
            "invalid application: use http://HOST:PORT, h2://HOST:PORT or unix:/PATH, without a \
             path after the port; https:// and h2s:// need a build with the feature `tls`"
        })
    }
}

impl Error for UpstreamError {}

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
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(
                (upstream.to_string().as_str(), upstream.is_tls()),
                (text, false)
            );
        }
        for text in ["https://[::1]:3000", "h2s://app.internal:443"] {
            let upstream = text.parse::<Upstream>();
            assert_eq!(upstream.is_ok(), cfg!(feature = "rustls"));
            assert!(upstream.is_ok_and(|it| it.to_string() == text && it.is_tls()) || !HAS_TLS);
        }
        let short: Upstream = "http://app/".parse().unwrap();
        assert_eq!(short.to_string(), "http://app:80");
        for text in [
            "",
            "unix:",
            "app:80",
            "https://",
            "https://app/path",
            "spdy://app",
            "http://",
            "http://app/path",
            "http://app/?query",
            "http://user@app",
            "http://app:99999",
        ] {
            assert_eq!(text.parse::<Upstream>(), Err(UpstreamError), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_unix_socket_whose_queue_is_full_refuses() {
        let path = std::env::temp_dir().join(format!("spdy-upstream-{}", std::process::id()));
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let _silent = socket.listen(1).unwrap();
        let upstream: Upstream = format!("unix:{}", path.display()).parse().unwrap();
        let lookups = Lookups::default();
        let mut queue = Vec::new();
        let error = loop {
            match upstream.connect(&lookups).await {
                Ok(queued) => queue.push(queued),
                Err(error) => break error,
            }
            assert!(queue.len() < 16, "the queue has no end");
        };
        std::fs::remove_file(path).unwrap();
        assert!(upstream.is_refusal(&error), "{error}");
    }

    /// A listener that accepts nothing and whose queue is full drops all packets.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_host_whose_first_address_is_silent_is_reached_at_the_next() {
        use std::time::Duration;

        use tokio::{
            net::{TcpListener, TcpSocket, TcpStream},
            time::timeout,
        };

        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _silent = silent.listen(1).unwrap();
        let first = _silent.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(queued) = timeout(Duration::from_millis(500), TcpStream::connect(first)).await
        {
            queue.push(queued.unwrap());
            assert!(queue.len() < 16, "the queue has no end");
        }
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = connect_first(vec![first, second.local_addr().unwrap()]);
        let connected = timeout(Duration::from_secs(60), connecting).await;
        drop(connected.expect("the second address is tried").unwrap());
    }
}
