//! The rival: an axum router served over HTTP/2 by hyper, and nothing else. No timeouts, no limits
//! on connections, no choice of protocols. `bare-h2` prints the address that it listens on, and
//! runs until it is killed.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> io::Result<()> {
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/bytes/{bytes}", get(filler))
        .route("/sink", post(sink))
        .route("/echo", post(async |body: Body| body));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = TowerToHyperService::new(app.clone());
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(socket), service);
        // How a connection ends is the client's to judge.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn hello() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(&[b'x'; 100])));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn filler(Path(bytes): Path<usize>) -> Body {
    Body::new(Filler(bytes))
}

async fn sink(mut body: Body) -> String {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes.to_string()
}

/// A body with this number of bytes, which are all slices of one buffer.
struct Filler(usize);

impl http_body::Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static BYTES: [u8; 65_536] = [b'y'; 65_536];
        let bytes = self.0.min(BYTES.len());
        if bytes == 0 {
            return Poll::Ready(None);
        }
        self.0 -= bytes;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BYTES[..bytes])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}
