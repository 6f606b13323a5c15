//! A relay whose connections are cut, at each moment of a session.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spdy_kube::{
    BoxError, CommandTap, Exit, Io, Options, Passing, Relay, Server, Status, Tap,
    client::{self, Client, ClientError, Remote, Transport},
    relay,
};
use spdy_session::{HeaderBlock, Side, StreamId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, sink},
    runtime::{Builder, Handle},
    task::yield_now,
    time::{sleep, timeout},
};

use self::support::{
    ALL, PAIRS,
    wires::{Connecting, Wires, in_memory},
};

const INPUT: &[u8] = &[b'i'; 20_000];
const CODE: Status = Status::Exit(Exit::code(7));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Client,
    Server,
    /// No connection is cut, but what uses the client is dropped.
    Dropped,
}

/// What a tap and a command have seen.
#[derive(Debug, Default)]
struct Seen {
    input: Vec<u8>,
    output: Vec<u8>,
    has_input_ended: bool,
    begun: AtomicUsize,
    ended: Vec<Option<Status>>,
    /// The input of the command, and whether it has ended in order.
    command: Option<(Vec<u8>, bool)>,
}

#[derive(Clone, Default)]
struct Watching(Arc<Mutex<Seen>>);

impl CommandTap for Watching {
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        let mut seen = self.0.lock().unwrap();
        match what {
            Passing::Stdin(bytes) => seen.input.extend_from_slice(bytes),
            Passing::StdinEnd => seen.has_input_ended = true,
            Passing::Stdout(bytes) => seen.output.extend_from_slice(bytes),
            _ => {}
        }
        Ok(())
    }

    fn ended(&self, outcome: Option<&Status>) {
        self.0.lock().unwrap().ended.push(outcome.cloned());
    }
}

impl Tap for Watching {
    fn opened(&self, _: StreamId, _: &HeaderBlock) {}

    fn passed(&self, _: StreamId, from: Side, bytes: &[u8]) {
        let mut seen = self.0.lock().unwrap();
        match from {
            Side::Client => seen.input.extend_from_slice(bytes),
            // The outcome is among it.
            Side::Server => seen.output.extend_from_slice(bytes),
        }
    }

    fn ended(&self, outcome: Option<&Status>) {
        self.0.lock().unwrap().ended.push(outcome.cloned());
    }
}

/// A command that says its input again when that has ended, and ends with 7.
async fn echo(mut io: Io, seen: Watching) -> Result<Exit, BoxError> {
    let mut input = Vec::new();
    let end = io.stdin.take().unwrap().read_to_end(&mut input).await;
    seen.0.lock().unwrap().command = Some((input.clone(), end.is_ok()));
    end?;
    io.stdout.take().unwrap().write_all(&input).await?;
    Ok(Exit::code(7))
}

/// The way to a relay before a server.
fn chain(
    pair: Option<(Transport, Transport)>,
    seen: &Watching,
) -> (
    Wires,
    Wires,
    impl Fn() -> Connecting + Clone + Send + Sync + use<>,
) {
    let (to_client, to_server) = (Wires::default(), Wires::default());
    let run = seen.clone();
    let server = in_memory(&to_server, move |mut request| {
        let run = run.clone();
        async move {
            let options = Options::from_query(request.uri().query().unwrap()).unwrap();
            Server::new().exec(&mut request, options.streams, |io| echo(io, run))
        }
    });
    let tap = seen.clone();
    let way = in_memory(&to_client, move |mut request| {
        let (server, tap) = (server.clone(), tap.clone());
        tap.0.lock().unwrap().begun.fetch_add(1, Ordering::Relaxed);
        async move {
            let onward = client::request(request.uri());
            match pair {
                Some((_, transport)) => {
                    let client = Client::new(server).transport(transport);
                    let relay = Relay::new(Server::new(), client);
                    relay.exec(&mut request, onward, ALL, tap).await
                }
                None => {
                    let Ok(transport) = server().into_inner();
                    relay(&mut request, onward, transport.into_inner(), tap).await
                }
            }
        }
    });
    (to_client, to_server, way)
}

/// Asks for the command.
async fn ask(client: Client<impl Fn() -> Connecting>) -> Result<Remote, ClientError> {
    let mut options = Options::default();
    options.command = vec!["x".to_owned()];
    options.streams = ALL;
    let uri = format!("http://pod/exec?{}", options.to_query());
    let request = client::request(&uri.parse().unwrap());
    client.exec(request, ALL).await
}

/// Runs the command as [`session`] does. If it is dropped, the input does not look complete.
async fn copied(client: Client<impl Fn() -> Connecting>) -> (Vec<u8>, Result<Status, ClientError>) {
    let mut output = Vec::new();
    let outcome = match ask(client).await {
        Ok(remote) => remote.copy(INPUT, &mut output, sink()).await,
        Err(error) => Err(error),
    };
    (output, outcome)
}

/// Runs the command. Returns its output, and the outcome.
async fn session(
    client: Client<impl Fn() -> Connecting>,
) -> (Vec<u8>, Result<Status, ClientError>) {
    let mut output = Vec::new();
    let mut remote = match ask(client).await {
        Ok(remote) => remote,
        Err(error) => return (output, Err(error)),
    };
    let mut stdin = remote.stdin.take().unwrap();
    let mut stdout = remote.stdout.take().unwrap();
    let upload = async {
        let sent = stdin.write_all(INPUT).await;
        if sent.is_ok() {
            _ = stdin.shutdown().await;
        }
        // Dropped, it would end.
        stdin
    };
    let (_stdin, _) = tokio::join!(upload, stdout.read_to_end(&mut output));
    (output, remote.outcome().await)
}

#[test]
fn a_cut_at_any_moment_is_no_success_and_leaves_nothing() {
    // One task at a time, so that there are many moments.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .event_interval(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        // `None` is the relay that passes SPDY as it is.
        for pair in PAIRS.map(Some).into_iter().chain([None]) {
            for cut in [Cut::Client, Cut::Server, Cut::Dropped] {
                let mut moment = 0;
                while !run(pair, cut, moment, &format!("{pair:?}, {cut:?} at {moment}")).await {
                    moment += 1 + moment / 50;
                }
                assert!(moment > 50, "there are few moments");
            }
        }
    });
}

/// Cuts a connection after a number of steps. Returns whether the session was over by then.
async fn run(pair: Option<(Transport, Transport)>, cut: Cut, moment: usize, case: &str) -> bool {
    let before = Handle::current().metrics().num_alive_tasks();
    let seen = Watching::default();
    let (to_client, to_server, way) = chain(pair, &seen);
    let transport = pair.map_or(Transport::Spdy, |pair| pair.0);
    let client = Client::new(way).transport(transport);
    let session = match cut {
        Cut::Dropped => tokio::spawn(copied(client)),
        _ => tokio::spawn(session(client)),
    };
    for _ in 0..moment {
        yield_now().await;
    }
    let was_over = session.is_finished();
    match cut {
        Cut::Client => to_client.cut(),
        Cut::Server => to_server.cut(),
        Cut::Dropped => session.abort(),
    }
    let ended = timeout(Duration::from_secs(100), session).await;
    let ended = ended.unwrap_or_else(|_| panic!("{case}: hangs"));
    let (output, outcome) = ended.unwrap_or_else(|error| {
        assert!(error.is_cancelled(), "{case}: {error}");
        (Vec::new(), Err(ClientError::NoAnswer))
    });
    // All deadlines have passed.
    sleep(Duration::from_secs(200)).await;
    let alive = Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive, before, "{case}: tasks are left");
    let seen = seen.0.lock().unwrap();
    assert!(INPUT.starts_with(&output), "{case}");
    assert!(INPUT.starts_with(&seen.input), "{case}");
    if let Some((input, has_ended)) = &seen.command {
        assert!(INPUT.starts_with(input), "{case}");
        assert!(!has_ended || input == INPUT, "{case}: an end is made up");
    }
    match &outcome {
        Ok(status @ Status::Exit(_)) => {
            assert_eq!((status, &*output), (&CODE, INPUT), "{case}");
        }
        Ok(status) => assert!(
            matches!(status, Status::Failure { .. }),
            "{case}: {status:?}"
        ),
        Err(_) => {}
    }
    assert_eq!(
        seen.ended.len(),
        seen.begun.load(Ordering::Relaxed),
        "{case}: {seen:?}"
    );
    match seen.ended.first() {
        Some(Some(Status::Success)) => panic!("{case}"),
        Some(told) if outcome.is_ok() => assert_eq!(*told, outcome.ok(), "{case}"),
        _ => {}
    }
    was_over
}
