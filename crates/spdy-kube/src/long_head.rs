//! A request whose head is too long gets a Status that says so.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::has_budget_remaining,
    time::{Sleep, sleep},
};

use crate::Status;

/// A transport for an HTTP/1.1 server of hyper. It turns the empty response to a head that is too
/// long into a [`Status`] for the user.
///
/// The command of an exec is in the target of its request. hyper refuses a target above 65,534
/// bytes with 414, and a head above the limit of the server with 431, before any service sees the
/// request, and without a body. So kubectl would print `Error from server:` and nothing else.
///
/// Wrap each connection that is accepted, above TLS. [`cri::Server::serve_connection`] and
/// spdy-bastion do so. For axum:
///
/// ```no_run
/// use std::net::SocketAddr;
///
/// use axum::serve::Listener;
/// use spdy_kube::Explained;
/// use tokio::net::{TcpListener, TcpStream};
///
/// struct Explaining(TcpListener);
///
/// impl Listener for Explaining {
///     type Io = Explained<TcpStream>;
///     type Addr = SocketAddr;
///
///     async fn accept(&mut self) -> (Self::Io, SocketAddr) {
///         let (socket, address) = Listener::accept(&mut self.0).await;
///         (Explained::new(socket), address)
///     }
///
///     fn local_addr(&self) -> std::io::Result<SocketAddr> {
///         self.0.local_addr()
///     }
/// }
///
/// # async fn serve(app: axum::Router) -> std::io::Result<()> {
/// let listener = Explaining(TcpListener::bind("127.0.0.1:8001").await?);
/// axum::serve(listener, app).await
/// # }
/// ```
///
/// Only the first response of a connection is changed: clients make a new connection for each exec,
/// and bytes of a later body could look like a response. After such a response the rest of the
/// request is read and discarded, for at most 5 s. Otherwise the client would get a TCP reset
/// instead of the response. Everything else passes as it is, also after an upgrade.
///
/// Outside a tokio runtime with a timer, closing the transport after such a response panics.
///
/// [`cri::Server::serve_connection`]: crate::cri::Server::serve_connection
#[derive(Debug)]
pub struct Explained<IO> {
    io: IO,
    max_head: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was written.
    Fresh,
    /// The first response is written, but not as hyper wants it.
    Explaining(Instead),
    /// The refused client might still be sending.
    Refused(Drain),
    /// All bytes pass.
    Passing,
}

/// What is written for a response of hyper.
#[derive(Debug)]
struct Instead {
    text: Vec<u8>,
    written: usize,
    /// The length of the response.
    length: usize,
}

impl<IO> Explained<IO> {
    /// Wraps a connection to a server with the default limit of hyper, 408 KiB for a head.
    pub const fn new(io: IO) -> Self {
        Self {
            io,
            max_head: DEFAULT_HEAD,
            state: State::Fresh,
        }
    }

    /// Sets the most bytes of a head, which the message names. It should be the `max_buf_size` of
    /// the server.
    #[must_use]
    pub const fn max_head(mut self, bytes: usize) -> Self {
        self.max_head = bytes;
        self
    }

    /// Returns the transport.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncWrite + Unpin> Explained<IO> {
    /// Writes what belongs there instead of the first response, if it is one to a long head.
    fn poll_instead(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<Option<usize>>> {
        if matches!(self.state, State::Fresh) {
            self.state = instead(bytes, self.max_head).map_or(State::Passing, State::Explaining);
        }
        let State::Explaining(instead) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        while instead.written < instead.text.len() {
            let rest = &instead.text[instead.written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => instead.written += length,
            }
        }
        let length = instead.length;
        self.state = State::Refused(Drain::default());
        Poll::Ready(Ok(Some(length)))
    }
}

/// Returns what is written for a response, if it is one of hyper to a head that is too long.
fn instead(bytes: &[u8], max_head: usize) -> Option<Instead> {
    let text = str::from_utf8(bytes).ok()?;
    let (line, fields) = text.strip_suffix("\r\n\r\n")?.split_once("\r\n")?;
    let code = match line {
        "HTTP/1.1 414 URI Too Long" => StatusCode::URI_TOO_LONG,
        "HTTP/1.1 431 Request Header Fields Too Large" => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        _ => return None,
    };
    if !fields
        .split("\r\n")
        .any(|field| field == "content-length: 0")
    {
        return None;
    }
    let message = format!(
        "request is too long: its target, which has the command of an exec, can have {TARGET} bytes, and \
         its head {max_head} bytes",
    );
    let response = Status::failure(code, "BadRequest", message).into_response();
    let mut text = format!("{line}\r\nconnection: close\r\n");
    for (name, value) in response.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let body = response.body();
    text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    Some(Instead {
        text: text.into_bytes(),
        written: 0,
        length: bytes.len(),
    })
}

/// Reads and discards what a refused client sends, until it ends or a limit is reached.
#[derive(Debug, Default)]
struct Drain {
    limit: Option<Pin<Box<Sleep>>>,
}

impl Drain {
    fn poll<IO: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, io: &mut IO) -> Poll<()> {
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(DRAIN)));
        let mut discarded = [0; 8192];
        loop {
            if limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
            // A client that never stops sending does not keep its thread busy.
            if !has_budget_remaining() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Explained<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Explained<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_instead(cx, bytes))? {
            Some(length) => Poll::Ready(Ok(length)),
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.state, State::Fresh | State::Explaining(_)) {
            // A response without a body is one piece.
            let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
            match (filled.next(), filled.next()) {
                (Some(only), None) => return self.poll_write(cx, only),
                (Some(_), Some(_)) => self.state = State::Passing,
                (None, _) => {}
            }
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let is_draining = matches!(&this.state, State::Refused(drain) if drain.limit.is_some());
        if !is_draining {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if let State::Refused(drain) = &mut this.state {
            ready!(drain.poll(cx, &mut this.io));
        }
        Poll::Ready(Ok(()))
    }
}

/// The most bytes of a target in hyper.
const TARGET: usize = 65_534;

/// The default of hyper for `max_buf_size`.
const DEFAULT_HEAD: usize = 8192 + 4096 * 100;

/// How long a refused request is read, so that its client gets the response.
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    const EMPTY: &str = "HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\ndate: a\r\n\r\n";

    /// Returns what arrives of some writes, through a transport that takes a few bytes at once.
    async fn arrives(writes: &[&str]) -> String {
        let (ours, mut theirs) = duplex(7);
        let mut explained = Explained::new(ours);
        let writing = async {
            for text in writes {
                explained.write_all(text.as_bytes()).await.unwrap();
            }
            drop(explained);
        };
        let mut text = String::new();
        let (_, read) = tokio::join!(writing, theirs.read_to_string(&mut text));
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn an_empty_refusal_of_a_head_is_explained() {
        let text = arrives(&[EMPTY]).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{text}");
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(
            body.contains("\"kind\":\"Status\"") && body.contains("65534"),
            "{text}"
        );
    }

    /// Bytes of a body could be those of a refusal.
    #[tokio::test]
    async fn only_the_first_response_can_be_explained() {
        for writes in [
            &["HTTP/1.1 414 URI Too Long\r\ncontent-length: 1\r\n\r\na"][..],
            &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 101 Switching Protocols\r\n\r\n", EMPTY],
            &["HTTP/1.1 200 OK\r\ncontent-length: 61\r\n\r\n", EMPTY],
        ] {
            assert_eq!(arrives(writes).await, writes.concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_that_goes_on_sending_is_read_for_a_limited_time() {
        let (ours, theirs) = duplex(16);
        let mut explained = Explained::new(ours);
        let (mut from, mut to) = tokio::io::split(theirs);
        let reading = tokio::spawn(async move { from.read_to_end(&mut Vec::new()).await });
        let sending = tokio::spawn(async move {
            while to.write_all(b"more").await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        let start = Instant::now();
        explained.write_all(EMPTY.as_bytes()).await.unwrap();
        explained.shutdown().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), DRAIN.as_secs());
        drop(explained);
        sending.await.unwrap();
        assert!(reading.await.unwrap().unwrap() > 100);
    }
}
