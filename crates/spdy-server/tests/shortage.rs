//! The reverse proxy in a process that has no file descriptor left. All tests of a process have the
//! same limit, so there is one.

#![cfg(unix)]

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spdy_server::app::{Proxy, proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceExt;

async fn answer(listener: TcpListener) {
    while let Ok((mut io, _)) = listener.accept().await {
        let read = io.read(&mut [0; 4096]).await.unwrap();
        assert!(read > 0, "there is a request");
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        io.write_all(answer).await.unwrap();
    }
}

/// Sets how many descriptors there can be, and returns how many there could be.
fn limit(most: Option<u64>) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: most,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    current
}

async fn status(app: &Router) -> StatusCode {
    let request = Request::new(Body::empty());
    app.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn a_request_for_which_no_descriptor_is_left_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(answer(listener));
    for host in ["127.0.0.1", "localhost"] {
        let app = proxy(Proxy::new(format!("http://{host}:{port}").parse().unwrap()));
        let before = limit(Some(0));
        let short = status(&app).await;
        limit(before);
        assert_eq!(short, StatusCode::SERVICE_UNAVAILABLE, "{host}");
        assert_eq!(status(&app).await, StatusCode::NO_CONTENT, "{host}");
    }
}
