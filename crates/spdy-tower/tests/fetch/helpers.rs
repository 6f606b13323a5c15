//! Reading whole bodies, and the time limit of a whole request.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{Request, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::{Empty, Full};
use spdy_frame::Version;
use spdy_tower::{
    Builder,
    client::{
        Client, ConnectorError, FetchError, InvalidTarget, Plain, ReadBody, ReadError,
        RequestTimeout,
    },
};
use tokio::time::{Instant, sleep};

use super::{http1_on, network::Network};

const MINUTE: Duration = Duration::from_secs(60);

fn pages() -> Router {
    let slow = async || {
        sleep(MINUTE).await;
        "at last"
    };
    let slowly = async || {
        let pieces = pieces_of([(0, "a"), (40, "b"), (40, "c")]);
        Body::new(pieces)
    };
    Router::new()
        .route("/text", get("h\u{e9}llo"))
        .route("/bytes", get(async || Bytes::from_static(b"h\xe9llo")))
        .route("/json", get("[1,2,3]"))
        .route("/slow", get(slow))
        .route("/slowly", get(slowly))
}

/// A network whose server has these pages, over SPDY/3.1 or HTTP/1.1.
fn network(plain: Plain) -> Network {
    Network::new(Duration::ZERO, move |io, _| async move {
        match plain {
            Plain::Spdy(version) => {
                let builder = Builder::new();
                _ = builder.serve_connection(io, version, pages()).await;
            }
            _ => http1_on(io, pages()).await,
        }
    })
}

const PROTOCOLS: [Plain; 2] = [Plain::Spdy(Version::V3_1), Plain::Http1];

#[tokio::test(start_paused = true)]
async fn a_response_is_read_as_bytes_text_or_json() {
    for plain in PROTOCOLS {
        let client = network(plain).client(plain);
        let body = async |path: &str| {
            let uri = format!("http://a.test{path}");
            client.get(uri).await.unwrap().into_body()
        };
        assert_eq!(
            body("/bytes").await.bytes(5).await.unwrap(),
            &b"h\xe9llo"[..]
        );
        assert_eq!(body("/text").await.text(6).await.unwrap(), "h\u{e9}llo");
        let numbers: Vec<u8> = body("/json").await.json(7).await.unwrap();
        assert_eq!(numbers, [1, 2, 3]);

        let error = body("/text").await.text(5).await.unwrap_err();
        assert!(matches!(error, ReadError::TooLong(5)), "{error:?}");
        assert_eq!(error.to_string(), "body exceeds the limit of 5 bytes");
        let error = body("/bytes").await.text(9).await.unwrap_err();
        assert!(matches!(error, ReadError::Text(_)), "{error:?}");
        let error = body("/json").await.json::<String>(9).await.unwrap_err();
        assert!(matches!(error, ReadError::Json(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_text_that_is_no_uri_is_an_error() {
    let client = super::plain(Plain::Http1);
    for (uri, expected) in [
        ("http://a b/", InvalidTarget::Uri),
        ("/path", InvalidTarget::NotAbsolute),
        ("ftp://a.test/", InvalidTarget::Scheme),
    ] {
        match client.get(uri).await.unwrap_err() {
            FetchError::Connect(ConnectorError::Target(reason)) => assert_eq!(reason, expected),
            other => panic!("{uri}: {other:?}"),
        }
    }
}

/// A body of pieces that tells how many were taken.
struct Pieces {
    left: VecDeque<Result<&'static [u8], io::Error>>,
    announced: u64,
}

impl http_body::Body for Pieces {
    type Data = &'static [u8];
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<&'static [u8]>, io::Error>>> {
        Poll::Ready(self.left.pop_front().map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.announced);
        hint
    }
}

fn pieces<const N: usize>(pieces: [&'static [u8]; N], announced: u64) -> Pieces {
    Pieces {
        left: pieces.into_iter().map(Ok).collect(),
        announced,
    }
}

#[tokio::test]
async fn a_body_of_any_kind_is_read_up_to_the_limit() {
    assert_eq!(pieces([b"ab", b"", b"c"], 0).bytes(3).await.unwrap(), "abc");
    assert_eq!(Empty::<Bytes>::new().bytes(0).await.unwrap(), "");
    let whole = Bytes::from_static(b"whole");
    let read = Full::new(whole.clone()).bytes(5).await.unwrap();
    assert_eq!(read.as_ptr(), whole.as_ptr(), "it was copied");

    let error = pieces([b"ab", b"cd"], 0).bytes(3).await.unwrap_err();
    assert!(matches!(error, ReadError::TooLong(3)), "{error:?}");
    // What is announced is not waited for.
    let mut endless = pieces([], 4);
    endless.left.push_back(Err(io::ErrorKind::Other.into()));
    let error = endless.bytes(3).await.unwrap_err();
    assert!(matches!(error, ReadError::TooLong(3)), "{error:?}");

    let mut broken = pieces([b"ab"], 0);
    broken.left.push_back(Err(io::ErrorKind::Other.into()));
    let error = broken.bytes(3).await.unwrap_err();
    assert!(matches!(error, ReadError::Body(_)) && !error.is_timeout());
}

/// Asks for a page within half a minute, as a limit of the connector or of the request.
async fn within_half_a_minute(plain: Plain, own: bool, path: &str) -> Result<String, ReadError> {
    let half = Some(MINUTE / 2);
    let connector = network(plain).connector(plain);
    let connector = connector.request_timeout(if own { Some(MINUTE * 9) } else { half });
    let client = Client::new(connector);
    let mut request = Request::get(format!("http://a.test{path}"));
    if own {
        request = request.extension(RequestTimeout(MINUTE / 2));
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    match client.send(request).await {
        Ok(response) => response.into_body().text(100).await,
        Err(error) => Err(ReadError::Body(error.into())),
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_given_up() {
    for plain in PROTOCOLS {
        for (own, path) in [(false, "/slow"), (true, "/slow"), (false, "/slowly")] {
            let began = Instant::now();
            let error = within_half_a_minute(plain, own, path).await.unwrap_err();
            assert_eq!(began.elapsed().as_secs(), 30, "{plain:?} {path}");
            assert!(error.is_timeout(), "{error:?}");
            let ReadError::Body(error) = error else {
                panic!("{error:?}")
            };
            let error = error.downcast::<FetchError>().unwrap();
            assert!(!error.is_connect() && !error.is_retry_safe() && !error.is_remote());
            assert_eq!(error.to_string(), "request took longer than 30s");
        }
        let text = within_half_a_minute(plain, true, "/text").await.unwrap();
        assert_eq!(text, "h\u{e9}llo");
    }
}

/// Connecting is a part of the request.
#[tokio::test(start_paused = true)]
async fn connecting_does_not_get_more_time_than_the_request() {
    let network = Network::new(MINUTE, async |_, _| {});
    let connector = network.connector(Plain::Http1).timeout(MINUTE * 2);
    let client = Client::new(connector.request_timeout(Some(MINUTE / 2)));
    let began = Instant::now();
    let error = client.get(Uri::from_static("http://a.test/")).await;
    assert!(error.unwrap_err().is_timeout());
    assert_eq!(began.elapsed().as_secs(), 30);
}

/// Without a limit a response may take as long as it likes.
#[tokio::test(start_paused = true)]
async fn by_default_a_request_may_take_any_time() {
    for plain in PROTOCOLS {
        let client = network(plain).client(plain);
        for (path, expected) in [("/slow", "at last"), ("/slowly", "abc")] {
            let response = client.get(format!("http://a.test{path}")).await.unwrap();
            assert_eq!(response.into_body().text(100).await.unwrap(), expected);
        }
    }
}

/// Returns a body of pieces, each of which comes some seconds after the one before.
fn pieces_of<const N: usize>(
    pieces: [(u64, &'static str); N],
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for (seconds, piece) in pieces {
            sleep(Duration::from_secs(seconds)).await;
            if sender.send_data(Bytes::from(piece)).await.is_err() {
                return;
            }
        }
    });
    body
}
