//! The address of the application behind a proxy, and its protocol.

use std::{error::Error, fmt, future::Future, io, net::SocketAddr, path::PathBuf, str::FromStr};

use axum::http::Uri;
use spdy_tower::client::connect_any;
use tokio::net::lookup_host;

use crate::socket::Socket;

/// The address of an application and its protocol. Written as `http://HOST:PORT` for HTTP/1.1,
/// `h2://HOST:PORT` for HTTP/2 without TLS, or `unix:/PATH` for HTTP/1.1 over a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    place: Place,
    http2: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A host and a port. The name is looked up for each connection.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Upstream {
    pub(super) const fn is_http2(&self) -> bool {
        self.http2
    }

    /// Returns whether the requests for both addresses have the same form, so that each can go to
    /// either.
    pub(super) const fn speaks_like(&self, other: &Self) -> bool {
        self.http2 == other.http2
    }

    /// Returns the host to use if the client does not name one.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".into(),
        }
    }

    /// Returns whether an error says that nothing listens at the address, so that an application
    /// which starts again might listen soon.
    pub(super) fn is_refusal(&self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            // Many applications remove their Unix socket when they end.
            io::ErrorKind::NotFound => matches!(self.place, Place::Unix(_)),
            _ => false,
        }
    }

    /// Opens a connection to the first address of the host that answers, or to the Unix socket.
    pub(super) async fn connect(&self) -> io::Result<Socket> {
        match &self.place {
            Place::Tcp(host, port) => connect_first(lookup_host((host.as_str(), *port))).await,
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
async fn connect_first(
    addresses: impl Future<Output = io::Result<impl Iterator<Item = SocketAddr>>>,
) -> io::Result<Socket> {
    connect_any(addresses.await?).await.map(Socket::tcp)
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

/// The error for a text that is not a valid [`Upstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamError;

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid application: use http://HOST:PORT, h2://HOST:PORT or unix:/PATH, without a path after the port")
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
        let addresses = [first, second.local_addr().unwrap()];
        let connecting = connect_first(async { Ok(addresses.into_iter()) });
        let connected = timeout(Duration::from_secs(60), connecting).await;
        drop(connected.expect("the second address is tried").unwrap());
    }
}
