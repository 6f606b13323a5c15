//! How sessions end behind a relay whose client does not read, on a virtual clock.

mod support;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request};
use spdy_kube::{
    BoxError, CommandTap, Exit, Io, Relay, Server, Status,
    client::{self, Client, ClientError, Remote, Transport},
};
use spdy_session::Version;
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use self::support::{
    ALL, PAIRS,
    wires::{Connecting, Wires, in_memory},
};

const SECOND: Duration = Duration::from_secs(1);

/// A tap that ends its session after this time.
#[derive(Clone, Copy)]
struct Limit(Duration);

impl CommandTap for Limit {
    async fn over(&self) -> BoxError {
        sleep(self.0).await;
        "time is over".into()
    }
}

/// Writes without an end.
async fn flood(mut io: Io) -> Result<Exit, BoxError> {
    let mut stdout = io.stdout.take().unwrap();
    loop {
        stdout.write_all(&[7; 10_000]).await?;
    }
}

/// Writes as many bytes as the input has, and ends with success.
async fn echo(mut io: Io) -> Result<Exit, BoxError> {
    let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
    let mut input = Vec::new();
    stdin.read_to_end(&mut input).await?;
    stdout.write_all(&input).await?;
    Ok(Exit::SUCCESS)
}

/// Asks for a command behind a relay.
async fn exec<R>(pair: (Transport, Transport), limit: Duration, run: fn(Io) -> R) -> Remote
where
    R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
{
    let way = relay(pair.1, limit, run);
    let client = Client::new(way).transport(pair.0).ping(None);
    client.exec(request(), ALL).await.unwrap()
}

fn request() -> Request<()> {
    client::request(&"http://pod/exec".parse().unwrap())
}

/// Returns what connects to a relay in front of a server.
fn relay<R>(
    to_server: Transport,
    limit: Duration,
    run: fn(Io) -> R,
) -> impl Fn() -> Connecting + Clone + Send + Sync
where
    R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
{
    let server = in_memory(&Wires::default(), move |mut request| async move {
        Server::new().exec(&mut request, ALL, run)
    });
    let relay = Relay::new(Server::new(), Client::new(server).transport(to_server));
    in_memory(&Wires::default(), move |mut request| {
        let relay = relay.clone();
        async move {
            let onward = client::request(request.uri());
            relay.exec(&mut request, onward, ALL, Limit(limit)).await
        }
    })
}

/// Returns the outcome for a client that reads nothing for some time, and then everything.
async fn outcome_after(
    time: Duration,
    pair: (Transport, Transport),
    limit: Duration,
) -> Result<Status, ClientError> {
    let remote = exec(pair, limit, flood).await;
    sleep(time).await;
    remote.outcome().await
}

/// Over SPDY the outcome is sent without the outputs after 10 s, and waits for 30 s more.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_told_of_the_end_for_10_s_and_over_spdy_for_40_s() {
    for pair in PAIRS {
        let time = match pair.0 {
            Transport::Spdy => 41,
            _ => 11,
        };
        for soon in [9, time - 1] {
            let soon = outcome_after(soon * SECOND, pair, SECOND).await.unwrap();
            assert_eq!(soon.to_string(), "time is over", "{pair:?}");
        }
        let late = outcome_after((time + 2) * SECOND, pair, SECOND).await;
        assert!(late.is_err(), "{pair:?}: {late:?}");
    }
}

/// kubectl takes an error stream that is reset, or ends without a text, for a success.
#[tokio::test(start_paused = true)]
async fn a_client_whose_terminal_pauses_gets_the_outcome_and_no_reset() {
    for pause in [5, 12, 30] {
        let way = relay(Transport::Spdy, SECOND, flood);
        let mut request = request();
        let name = HeaderName::from_static("x-stream-protocol-version");
        let protocol = HeaderValue::from_static("v4.channel.k8s.io");
        request.headers_mut().insert(name, protocol);
        let transport = way().await.unwrap().into_inner();
        let (response, transport) = upgrade::connect(transport, request).await.unwrap();
        let (session, _incoming, mut driver) =
            spdy_session::client(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(async move {
            // While nothing drives the session, nothing is read.
            _ = timeout(SECOND / 2, &mut driver).await;
            sleep(pause * SECOND).await;
            driver.await
        });
        let client = support::Client { response, session };
        let mut error = client.open_type("error").await.unwrap();
        let _stdin = client.open_type("stdin").await.unwrap();
        let mut stdout = client.open_type("stdout").await.unwrap();
        let _stderr = client.open_type("stderr").await.unwrap();
        // Until then little is read, or the flood would not let the virtual clock go on.
        sleep(pause * SECOND + SECOND / 2).await;
        let mut thrown_away = tokio::io::sink();
        let outputs = tokio::io::copy(&mut stdout, &mut thrown_away);
        let ((told, ended), _) = tokio::join!(support::read_any(&mut error), outputs);
        assert!(
            told.contains("time is over"),
            "{pause} s: {told:?}, {ended:?}"
        );
        assert!(ended.is_ok(), "{pause} s: {ended:?}");
    }
}

/// Some of these outputs are held by the client alone, some by the relay after the command has
/// ended, and some by the command. A transport that has taken everything is closed after 30 s.
#[tokio::test(start_paused = true)]
async fn a_command_that_ends_by_itself_waits_for_its_client() {
    for pair in PAIRS {
        for length in (1..=10).map(|number| 50_000 * number) {
            let mut remote = exec(pair, Duration::MAX, echo).await;
            let mut stdin = remote.stdin.take().unwrap();
            stdin.write_all(&vec![7; length]).await.unwrap();
            stdin.shutdown().await.unwrap();
            sleep(20 * SECOND).await;
            let mut output = Vec::new();
            let mut stdout = remote.stdout.take().unwrap();
            stdout.read_to_end(&mut output).await.unwrap();
            assert_eq!(output.len(), length, "{pair:?}");
            assert_eq!(remote.outcome().await.unwrap(), Status::Success, "{pair:?}");
        }
    }
}
