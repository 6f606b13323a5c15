//! The page with metrics, over HTTP/1.1.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Method, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_tower::Http1Io;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};

use crate::metrics::{CONTENT, Metrics};

/// Serves the page. Never returns.
pub(crate) async fn run(socket: TcpListener, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((connection, _)) = socket.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let serving = serve(connection, metrics.clone());
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

/// Serves one connection.
async fn serve<IO>(connection: IO, metrics: Metrics)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = page(&metrics, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let serving = builder.serve_connection(TokioIo::new(Http1Io::new(connection)), service);
    _ = timeout(LIMIT, serving).await;
}

fn page(metrics: &Metrics, request: &Request<Incoming>) -> Response<String> {
    if request.uri().path() != "/metrics" || request.method() != Method::GET {
        let mut response = Response::new("see /metrics\n".to_owned());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(metrics.text());
    let content = http::HeaderValue::from_static(CONTENT);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

/// How many connections are open at once. Others wait.
const CONNECTIONS: usize = 64;

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may be open.
const LIMIT: Duration = Duration::from_secs(600);

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::TcpStream,
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test]
    async fn connections_above_the_limit_wait() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let running = tokio::spawn(run(socket, Metrics::new()));
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(request).await.unwrap();
            connection.read_exact(&mut [0; 12]).await.unwrap();
            open.push(connection);
        }
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(request).await.unwrap();
        let mut start = [0; 12];
        // The pause shows that nothing happens.
        let answer = timeout(Duration::from_millis(200), next.read_exact(&mut start));
        assert!(answer.await.is_err());
        open.pop();
        let answer = timeout(Duration::from_secs(60), next.read_exact(&mut start));
        answer.await.expect("place is free soon").unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        running.abort();
    }

    /// Returns the client's end of a connection.
    fn connect() -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(serve(far, Metrics::new()));
        near
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        for start in ["", "GET /metrics HTTP/1.1\r\n"] {
            let (mut connection, begun) = (connect(), Instant::now());
            connection.write_all(start.as_bytes()).await.unwrap();
            connection.read_to_end(&mut Vec::new()).await.unwrap();
            let late = begun.elapsed() - HEAD;
            assert!(late < Duration::from_millis(10), "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_though_its_client_asks_all_the_time() {
        let (mut connection, begun) = (connect(), Instant::now());
        loop {
            let request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
            let sent = connection.write_all(request).await;
            if sent.is_err() || connection.read(&mut [0; 4096]).await.unwrap() == 0 {
                break;
            }
            sleep(HEAD / 2).await;
        }
        let late = begun.elapsed() - LIMIT;
        assert!(late <= HEAD / 2, "{late:?}");
    }
}
