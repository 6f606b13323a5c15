//! The last bytes of a session whose transport holds what it has taken, as TLS does, while the
//! client pauses. kubectl takes a command whose outcome does not come for a success.

mod support;

use std::{convert::Infallible, time::Duration};

use http::{HeaderName, HeaderValue, Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_kube::{BoxError, Exit, Io, Server, Status, Streams, client, relay};
use spdy_session::{Stream, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};

use self::support::wires::{Wires, in_memory};

const SECOND: Duration = Duration::from_secs(1);

/// How many bytes a command sends: more than the wire takes, and less than the transport.
const LENGTH: usize = 60_000;

/// Serves HTTP on a transport that holds what it has taken. Returns the client's end.
fn holding<H, R>(handler: H) -> DuplexStream
where
    H: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<String>> + Send + 'static,
{
    let (near, far) = duplex(4096);
    let far = BufWriter::with_capacity(80 * 1024, far);
    let service = service_fn(move |request| {
        let response = handler(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    near
}

fn request() -> Request<()> {
    let mut request = client::request(&"http://pod/exec".parse().unwrap());
    let name = HeaderName::from_static("x-stream-protocol-version");
    let protocol = HeaderValue::from_static("v4.channel.k8s.io");
    request.headers_mut().insert(name, protocol);
    request
}

/// Starts a session whose client reads for a second, and then nothing for `pause`.
async fn pausing(transport: DuplexStream, pause: Duration) -> support::Client {
    let (response, transport) = upgrade::connect(transport, request()).await.unwrap();
    let (session, _, mut driver) =
        spdy_session::client(transport, Version::V3_1, spdy_kube::config());
    tokio::spawn(async move {
        _ = timeout(SECOND, &mut driver).await;
        sleep(pause).await;
        driver.await
    });
    support::Client { response, session }
}

/// Returns how many bytes arrive.
async fn length(stream: &mut Stream) -> usize {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    assert!(read.is_ok(), "{read:?} after {} bytes", bytes.len());
    bytes.len()
}

/// Writes when the client has paused, and fails.
async fn fail_late(mut io: Io) -> Result<Exit, BoxError> {
    sleep(2 * SECOND).await;
    let mut stdout = io.stdout.take().unwrap();
    stdout.write_all(&[7; LENGTH]).await?;
    Ok(Exit::code(3))
}

const OUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

/// Asks for a command whose client pauses, and checks what the client gets.
async fn check(transport: DuplexStream, pause: Duration) {
    let client = pausing(transport, pause).await;
    let mut error = client.open_type("error").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    let (outcome, length) = tokio::join!(support::read(&mut error), length(&mut stdout));
    assert_eq!(length, LENGTH, "{pause:?}");
    let outcome = Status::from_json(outcome.as_bytes());
    assert_eq!(outcome, Ok(Status::Exit(Exit::code(3))), "{pause:?}");
}

/// In seconds.
const PAUSES: [u32; 3] = [3, 10, 28];

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_the_last_output_and_the_outcome() {
    for pause in PAUSES {
        let transport =
            holding(|mut request| async move { Server::new().exec(&mut request, OUT, fail_late) });
        check(transport, pause * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_behind_a_relay_that_pauses_gets_them_too() {
    for pause in PAUSES {
        let server = in_memory(&Wires::default(), |mut request| async move {
            Server::new().exec(&mut request, OUT, fail_late)
        });
        let transport = holding(move |mut request| {
            let server = server.clone();
            async move {
                let onward = client::request(request.uri());
                let transport = server().await.unwrap().into_inner();
                relay(&mut request, onward, transport, ()).await
            }
        });
        check(transport, pause * SECOND).await;
    }
}

/// A PING of the client to a transport that is closed would be answered with a reset, which
/// destroys what the client has not got.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_has_30_s_to_close_its_connection() {
    let transport =
        holding(|mut request| async move { Server::new().exec(&mut request, OUT, fail_late) });
    let (response, transport) = upgrade::connect(transport, request()).await.unwrap();
    let (mut from, mut to) = tokio::io::split(transport);
    let (near, far) = duplex(4096);
    let (session, _, driver) = spdy_session::client(near, Version::V3_1, spdy_kube::config());
    tokio::spawn(driver);
    let (mut from_client, mut to_client) = tokio::io::split(far);
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut to_client).await });
    // What the client sends arrives, but not its end.
    let closed = tokio::spawn(async move {
        let mut bytes = [0; 1000];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            to.write_all(&bytes[..length]).await.unwrap();
        }
        let start = Instant::now();
        while to.write_all(&[0]).await.is_ok() {
            sleep(SECOND / 10).await;
        }
        start.elapsed()
    });
    let client = support::Client { response, session };
    let mut error = client.open_type("error").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    let (_, length) = tokio::join!(support::read(&mut error), length(&mut stdout));
    assert_eq!(length, LENGTH);
    drop((client, error, stdout));
    let closed = closed.await.unwrap();
    assert!((29 * SECOND..31 * SECOND).contains(&closed), "{closed:?}");
}
