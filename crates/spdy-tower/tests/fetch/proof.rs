//! The table of `FetchError::is_retry_safe`: what proves that no application has looked at a
//! request, in three protocols.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::Full;
use spdy_frame::{HeaderCompression, HeaderEncoder, StreamId, SynReply, Version};
use spdy_tower::client::{Client, Connector, FetchError, Plain, ReadBody, ReadError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::sleep,
};
use tokio_rustls::rustls::RootCertStore;

use super::{
    network::{Network, ask},
    trusting,
};
use crate::support::client::ok;

/// What a server does after it has a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Refuse,
    Cancel,
    /// GOAWAY in order, which names no stream.
    GoAway,
    /// GOAWAY with an error, which names no stream.
    GoAwayInAnger,
    Close,
    Nothing,
}

const PROTOCOLS: [Plain; 3] = [Plain::Spdy(Version::V3_1), Plain::Http2, Plain::Http1];

/// Waits for a request, answers with a head if `with_head`, and acts.
async fn serve(mut io: DuplexStream, plain: Plain, with_head: bool, act: Act) {
    if plain == Plain::Http2 {
        io.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    }
    // All of a request is there after that.
    sleep(SECOND).await;
    assert!(io.read(&mut [0; 4096]).await.unwrap() > 0);
    if with_head {
        io.write_all(&head(plain)).await.unwrap();
        sleep(SECOND).await;
    }
    if act == Act::Close {
        return;
    }
    io.write_all(&frame(plain, act)).await.unwrap();
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
}

/// The head of a response that has a body.
fn head(plain: Plain) -> Vec<u8> {
    match plain {
        Plain::Http1 => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec(),
        Plain::Http2 => b"\0\0\x01\x01\x04\0\0\0\x01\x88".to_vec(),
        _ => {
            let mut bytes = BytesMut::new();
            let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::default());
            let reply = SynReply {
                stream: StreamId::new(1).unwrap(),
                fin: false,
                block: &ok(Version::V3_1, &[]),
            };
            encoder.encode_syn_reply(&reply, &mut bytes).unwrap();
            bytes.to_vec()
        }
    }
}

/// The frame of an act, on stream 1.
fn frame(plain: Plain, act: Act) -> Vec<u8> {
    let is_spdy = plain != Plain::Http2;
    let (start, kind): (&[u8], u8) = match (act, is_spdy) {
        (Act::Refuse, true) => (b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x01", 3),
        (Act::Cancel, true) => (b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x01", 5),
        (Act::GoAway, true) => (b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0", 0),
        (Act::GoAwayInAnger, true) => (b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0", 1),
        (Act::Refuse, false) => (b"\0\0\x04\x03\0\0\0\0\x01", 7),
        (Act::Cancel, false) => (b"\0\0\x04\x03\0\0\0\0\x01", 8),
        (Act::GoAway, false) => (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0", 0),
        (Act::GoAwayInAnger, false) => (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0", 1),
        (Act::Close | Act::Nothing, _) => return Vec::new(),
    };
    [start, &[0, 0, 0, kind]].concat()
}

/// The error of a POST, or of the body of its response.
async fn error(client: &Client) -> FetchError {
    let response = match ask(client, "POST", "/", "body").await {
        Err(error) => return error,
        Ok(response) => response,
    };
    match response.into_body().bytes(99).await {
        Err(ReadError::Body(error)) => *error.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_no_application_has_seen_is_safe_to_retry() {
    use Act::{Cancel, Close, GoAway, GoAwayInAnger, Nothing, Refuse};

    let before = [
        (Refuse, [Some(true), Some(true), None]),
        (GoAway, [Some(true), Some(true), None]),
        (GoAwayInAnger, [Some(true), Some(false), None]),
        (Cancel, [Some(false), Some(false), None]),
        (Close, [Some(false); 3]),
        (Nothing, [Some(false); 3]),
    ];
    let never = [Some(false), Some(false), None];
    let after = [Refuse, GoAway, GoAwayInAnger, Cancel].map(|act| (act, never));
    let after = after
        .into_iter()
        .chain([Close, Nothing].map(|act| (act, [Some(false); 3])));
    let rows = before.map(|row| (false, row)).into_iter();
    for (with_head, (act, expected)) in rows.chain(after.map(|row| (true, row))) {
        for (plain, expected) in PROTOCOLS.into_iter().zip(expected) {
            let Some(expected) = expected else { continue };
            let network = Network::new(Duration::ZERO, move |io, _| {
                serve(io, plain, with_head, act)
            });
            let connector = network.connector(plain);
            let client = Client::new(connector.request_timeout(Some(10 * SECOND)));
            let error = error(&client).await;
            let what = format!("{plain:?} {with_head} {act:?}: {error:?}");
            assert_eq!(error.is_retry_safe(), expected, "{what}");
            assert_eq!(error.is_timeout(), act == Nothing, "{what}");
            assert!(!error.is_connect(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_or_a_valid_request_nothing_was_sent() {
    for plain in PROTOCOLS {
        let refuses = tower::service_fn(async |_: http::Uri| {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            Err::<DuplexStream, _>(refused)
        });
        let connector = Connector::new(trusting(RootCertStore::empty())).plain(plain);
        let client = Client::new(connector.service(refuses));
        let error = error(&client).await;
        assert!(error.is_retry_safe() && error.is_connect(), "{error:?}");
        let relative = Request::post("/").body(Full::new(Bytes::new()));
        let error = client.send(relative.unwrap()).await.unwrap_err();
        assert!(error.is_retry_safe() && !error.is_connect(), "{error:?}");
    }
}

/// The system takes the bytes of a POST for a server that has vanished. No client can tell that
/// from a server that works on it, so it is sent once, and fails when keep-alive ends.
#[tokio::test(start_paused = true)]
async fn a_request_that_a_vanished_server_never_got_fails_because_nothing_proves_it() {
    for plain in [Plain::Spdy(Version::V3_1), Plain::Http2] {
        let network = Network::new(Duration::ZERO, move |io, _| {
            serve(io, plain, false, Act::Nothing)
        });
        let client = network.client(plain);
        let error = error(&client).await;
        assert!(!error.is_retry_safe() && error.is_timeout(), "{error:?}");
        assert_eq!(network.made(), 1, "{plain:?}");
    }
}

const SECOND: Duration = Duration::from_secs(1);
