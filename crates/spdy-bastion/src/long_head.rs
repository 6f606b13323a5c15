//! A request whose head is too long gets a Status that says so.
//!
//! hyper refuses such a head before any service sees it, with an empty response. A long command
//! line in a request for exec is such a head, and its user would read nothing.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::refusal::refusal;

/// A connection over HTTP/1.1 that explains the empty responses of hyper.
pub(crate) struct Explained<IO> {
    io: IO,
    /// Whether the connection was upgraded. Then nothing on it is a response.
    is_upgraded: bool,
    instead: Option<Instead>,
}

/// What is written for a response of hyper.
struct Instead {
    text: Vec<u8>,
    written: usize,
    /// The length of the response.
    length: usize,
}

impl<IO> Explained<IO> {
    pub(crate) const fn new(io: IO) -> Self {
        Self {
            io,
            is_upgraded: false,
            instead: None,
        }
    }
}

impl<IO: AsyncWrite + Unpin> Explained<IO> {
    /// Writes what belongs there instead of a response, if there is something.
    fn poll_instead(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<Option<usize>>> {
        if self.instead.is_none() && !self.is_upgraded {
            self.is_upgraded = bytes.starts_with(b"HTTP/1.1 101 ");
            self.instead = instead(bytes);
        }
        let Some(instead) = &mut self.instead else {
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
        self.instead = None;
        Poll::Ready(Ok(Some(length)))
    }
}

/// Returns what is written for a response, if it is one of hyper to a head that is too long.
fn instead(bytes: &[u8]) -> Option<Instead> {
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
    let message = "request is too long: its target, which has the command of an exec, can have 65534 bytes, \
                   and its head 128 KiB";
    let response = refusal(code, message).into_response();
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

impl<IO: AsyncRead + Unpin> AsyncRead for Explained<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Explained<IO> {
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
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A response without a body is one piece.
        if let [bytes] = bytes {
            return self.poll_write(cx, bytes);
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

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
    async fn only_an_empty_refusal_of_a_head_is_explained() {
        let text = arrives(&[EMPTY]).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{text}");
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(
            body.contains("\"kind\":\"Status\"") && body.contains("65534"),
            "{text}"
        );
        for writes in [
            &["HTTP/1.1 414 URI Too Long\r\ncontent-length: 1\r\n\r\na"][..],
            &["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 101 Switching Protocols\r\n\r\n", EMPTY],
        ] {
            assert_eq!(arrives(writes).await, writes.concat());
        }
    }
}
