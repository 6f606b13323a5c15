//! A command over SPDY and TLS whose client pauses. kubectl takes a command whose outcome does not
//! come for a success.

use std::convert::Infallible;

use http::{HeaderName, HeaderValue, Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_frame::Version;
use spdy_kube::{BoxError, Exit, Io, Server, Status, Streams, client};
use spdy_session::{HeaderBlock, OpenOptions, Session, Stream};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{sleep, timeout},
};

use crate::{LENGTH, SECOND, tls};

/// Writes when the client has paused, and fails.
async fn fail_late(mut io: Io) -> Result<Exit, BoxError> {
    sleep(2 * SECOND).await;
    let mut stdout = io.stdout.take().unwrap();
    stdout.write_all(&[7; LENGTH]).await?;
    Ok(Exit::code(3))
}

async fn open(session: &Session, kind: &str) -> Stream {
    let headers = HeaderBlock::from_pairs([("streamtype", kind)]).unwrap();
    let opened = session.open(headers, OpenOptions::default()).await;
    let mut stream = opened.unwrap();
    stream.response_headers().await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_the_last_output_and_the_outcome_over_tls() {
    let (near, far) = duplex(1000);
    let (near, far) = tls::connect(near, far).await;
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let streams = Streams {
            stdin: false,
            stdout: true,
            stderr: false,
            tty: false,
        };
        Ok::<_, Infallible>(Server::new().exec(&mut request, streams, fail_late))
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(near), service);
    tokio::spawn(server.with_upgrades());

    let mut request = client::request(&"http://pod/exec".parse().unwrap());
    let name = HeaderName::from_static("x-stream-protocol-version");
    let protocol = HeaderValue::from_static("v4.channel.k8s.io");
    request.headers_mut().insert(name, protocol);
    let (_, transport) = upgrade::connect(far, request).await.unwrap();
    let (session, _, mut driver) =
        spdy_session::client(transport, Version::V3_1, spdy_kube::config());
    tokio::spawn(async move {
        _ = timeout(SECOND, &mut driver).await;
        sleep(20 * SECOND).await;
        driver.await
    });

    let mut error = open(&session, "error").await;
    let mut stdout = open(&session, "stdout").await;
    let (mut outcome, mut output) = (Vec::new(), Vec::new());
    let (told, read) = tokio::join!(
        error.read_to_end(&mut outcome),
        stdout.read_to_end(&mut output)
    );
    assert_eq!((read.unwrap(), told.is_ok()), (LENGTH, true));
    assert_eq!(Status::from_json(&outcome), Ok(Status::Exit(Exit::code(3))));
}
