//! Recordings of commands that pass a relay.

mod support;

use std::{
    future::ready,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use spdy_kube::{
    Asciicast, BoxError, CommandTap, Exit, Io, Passing, Recording, Relay, Server, Size, Status,
    Streams,
    client::{self, Client, Remote, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use self::support::{
    ALL, SOON, TERMINAL,
    wires::{Wires, in_memory},
};

/// A disk that takes a number of bytes and then fails.
#[derive(Clone)]
struct Disk {
    file: Arc<Mutex<Vec<u8>>>,
    /// How many bytes it takes. With none, it waits.
    room: watch::Receiver<Option<usize>>,
}

impl Disk {
    fn new() -> Self {
        Self::with(usize::MAX).0
    }

    fn with(room: usize) -> (Self, watch::Sender<Option<usize>>) {
        let (sender, room) = watch::channel(Some(room));
        let file = Arc::default();
        (Self { file, room }, sender)
    }

    fn text(&self) -> String {
        String::from_utf8(self.file.lock().unwrap().clone()).unwrap()
    }

    /// Returns the head, and the codes and data of the events.
    fn events(&self) -> (Value, Vec<(String, String)>) {
        let text = self.text();
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let head: Value = lines.next().unwrap();
        let mut last = 0.0;
        let event = |event: Value| {
            let event = event.as_array().unwrap();
            assert_eq!(event.len(), 3);
            let time = event[0].as_f64().unwrap();
            assert!(time >= last, "time goes on");
            last = time;
            let text = |at: usize| event[at].as_str().unwrap().to_owned();
            (text(1), text(2))
        };
        (head, lines.map(event).collect())
    }
}

impl AsyncWrite for Disk {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut file = self.file.lock().unwrap();
        let Some(room) = *self.room.borrow() else {
            // Looks again. The clock is virtual.
            let waker = cx.waker().clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(1)).await;
                waker.wake();
            });
            return Poll::Pending;
        };
        let length = room.saturating_sub(file.len()).min(bytes.len());
        if length == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::Error::other("no space left")));
        }
        file.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a command behind a relay with a tap.
async fn exec<F, R>(wires: &Wires, streams: Streams, tap: Recording, run: F) -> Remote
where
    F: Fn(Io) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
{
    let server = in_memory(&Wires::default(), move |mut request| {
        ready(Server::new().exec(&mut request, streams, run.clone()))
    });
    let tap = Arc::new(Mutex::new(Some(tap)));
    let way = in_memory(wires, move |mut request| {
        let client = Client::new(server.clone()).transport(Transport::Spdy);
        let relay = Relay::new(Server::new(), client);
        let tap = tap.lock().unwrap().take().unwrap();
        async move {
            let onward = client::request(request.uri());
            relay.exec(&mut request, onward, streams, tap).await
        }
    });
    let client = Client::new(way).transport(Transport::WebSocket);
    let request = client::request(&"http://pod/exec".parse().unwrap());
    client.exec(request, streams).await.unwrap()
}

/// Reads the output to its end. Returns it with the outcome.
async fn finish(mut remote: Remote) -> (Vec<u8>, Status) {
    let mut output = Vec::new();
    let mut stdout = remote.stdout.take().unwrap();
    let reading = async {
        stdout.read_to_end(&mut output).await.unwrap();
        remote.outcome().await.unwrap()
    };
    let status = timeout(10 * SOON, reading).await.expect("it ends");
    (output, status)
}

fn events(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(code, data): &(&str, &str)| ((*code).to_owned(), (*data).to_owned());
    expected.iter().map(owned).collect()
}

/// Twice reads a size and writes it, and reads a line and writes it.
async fn two_lines(mut io: Io) -> Result<Exit, BoxError> {
    let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
    let mut resize = io.resize.take().unwrap();
    for _ in 0..2 {
        let size = resize.next().await.unwrap();
        stdout.write_all(size.width.to_string().as_bytes()).await?;
        let mut line = [0; 3];
        stdin.read_exact(&mut line).await?;
        stdout.write_all(&line).await?;
    }
    Ok(Exit::code(7))
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_recorded_with_its_outcome() {
    for has_input in [false, true] {
        let disk = Disk::new();
        let cast = Asciicast::new().title("a \"test\"\n").input(has_input);
        let (tap, written) = cast.record(disk.clone());
        let mut remote = exec(&Wires::default(), TERMINAL, tap, two_lines).await;
        let mut stdin = remote.stdin.take().unwrap();
        let mut stdout = remote.stdout.take().unwrap();
        let mut resizer = remote.resize.take().unwrap();
        let mut echo = [0; 3];
        let talking = async {
            for (width, line) in [(100, b"ab\n"), (900, b"cd\n")] {
                resizer.resize(Size { width, height: 30 }).await.unwrap();
                stdout.read_exact(&mut echo).await.unwrap();
                sleep(Duration::from_secs(2)).await;
                stdin.write_all(line).await.unwrap();
                stdout.read_exact(&mut echo).await.unwrap();
            }
        };
        timeout(SOON, talking).await.expect("the command answers");
        assert_eq!(remote.outcome().await.unwrap(), Exit::code(7).into());
        timeout(SOON, written).await.unwrap().unwrap().unwrap();
        let (head, recorded) = disk.events();
        assert_eq!(
            (&head["version"], &head["title"]),
            (&2.into(), &"a \"test\"\n".into())
        );
        // The first size belongs to the head.
        assert_eq!((&head["width"], &head["height"]), (&100.into(), &30.into()));
        assert!(head["timestamp"].as_u64().unwrap() > 1_700_000_000);
        let expected = [
            ("o", "100"),
            ("i", "ab\n"),
            ("o", "ab\n"),
            ("r", "900x30"),
            ("o", "900"),
            ("i", "cd\n"),
            ("o", "cd\n"),
            (
                "m",
                "command terminated with non-zero exit code: exit status 7",
            ),
        ];
        let is_expected = |(code, _): &(&str, &str)| has_input || *code != "i";
        let expected: Vec<_> = expected.into_iter().filter(is_expected).collect();
        assert_eq!(recorded, events(&expected));
        let last = disk.text().lines().last().unwrap().to_owned();
        assert!(last.starts_with("[4."), "{last}");
    }
}

/// Every byte, in pieces that split characters.
#[tokio::test(start_paused = true)]
async fn what_a_command_sends_cannot_break_the_recording() {
    let disk = Disk::new();
    let (tap, written) = Asciicast::new().record(disk.clone());
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend("\n[0.0,\"o\",\"x\"]\n{}\u{2028}\u{1f600}\u{1b}[2J\\\"".bytes());
    bytes.extend(b"\xf0\x9f");
    let sent = bytes.clone();
    let wires = Wires::default();
    let remote = exec(&wires, ALL, tap, move |mut io| {
        let sent = sent.clone();
        async move {
            let mut stdout = io.stdout.take().unwrap();
            for piece in sent.chunks(3) {
                stdout.write_all(piece).await?;
                sleep(Duration::from_millis(1)).await;
            }
            Ok(Exit::SUCCESS)
        }
    });
    let (output, status) = finish(remote.await).await;
    assert_eq!((&output, status), (&bytes, Status::Success));
    timeout(SOON, written).await.unwrap().unwrap().unwrap();
    let (_, mut recorded) = disk.events();
    assert_eq!(recorded.pop(), events(&[("m", "success")]).pop());
    assert!(recorded.len() > 50 && recorded.iter().all(|(code, _)| code == "o"));
    let text: String = recorded.into_iter().map(|(_, data)| data).collect();
    assert_eq!(text, String::from_utf8_lossy(&bytes));
}

/// Text, bytes that are not, and text. Nothing of them is lost.
#[tokio::test(start_paused = true)]
async fn every_byte_of_every_stream_is_recorded_if_that_is_wanted() {
    let disk = Disk::new();
    let cast = Asciicast::new().input(true).exact(true);
    let (tap, written) = cast.record(disk.clone());
    let zeros = vec![0; 100_000];
    let pieces: [&[u8]; 5] = [
        b"begin \xe2\x82\xac\n",
        b"\xff\0\xfe",
        b"\0",
        b"end\n",
        &zeros,
    ];
    for piece in pieces {
        tap.passes(Passing::Stdout(piece)).unwrap();
    }
    tap.passes(Passing::Stdin(b"\xff\xff")).unwrap();
    tap.passes(Passing::Stderr(b"error")).unwrap();
    tap.passes(Passing::Stdout(b"\xe2\x82")).unwrap();
    tap.ended(Some(&Status::Success));
    drop(tap);
    timeout(SOON, written).await.unwrap().unwrap().unwrap();
    let (head, recorded) = disk.events();
    assert_eq!(head["exact"], true);
    let marker = ("m", "bytes that are not text");
    let zeros = STANDARD.encode(zeros);
    let expected = [
        ("o", "begin \u{20ac}\n"),
        marker,
        ("b", "/wD+"),
        ("b", "AA=="),
        ("o", "end\n"),
        marker,
        ("b", &zeros),
        ("B", "//8="),
        ("s", "stderr"),
        ("o", "error"),
        ("s", "stdout"),
        marker,
        ("b", "4oI="),
        ("m", "success"),
    ];
    assert_eq!(recorded, events(&expected));
}

/// Sends lines for as long as the client reads them.
async fn lines(mut io: Io) -> Result<Exit, BoxError> {
    let mut stdout = io.stdout.take().unwrap();
    for number in 0..100 {
        stdout
            .write_all(format!("line {number}\n").as_bytes())
            .await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(Exit::SUCCESS)
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_the_session_if_that_is_wanted() {
    for is_closed in [true, false] {
        let (disk, _room) = Disk::with(1000);
        let (tap, written) = Asciicast::new().fail_closed(is_closed).record(disk.clone());
        let remote = exec(&Wires::default(), ALL, tap, lines).await;
        let (output, status) = finish(remote).await;
        let error = timeout(SOON, written).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no space left");
        let text = disk.text();
        assert_eq!(text.len(), 1000);
        let output = String::from_utf8(output).unwrap();
        if is_closed {
            let message = "session is not recorded any more: no space left";
            assert_eq!(status.to_string(), message);
            for line in output.lines() {
                assert!(text.contains(line), "{line} was not recorded");
            }
        } else {
            assert_eq!((output.lines().count(), status), (100, Status::Success));
        }
    }
}

/// The command is silent, so nothing passes.
#[tokio::test(start_paused = true)]
async fn a_failure_ends_a_session_in_which_nothing_passes() {
    let (disk, _room) = Disk::with(0);
    let (tap, _written) = Asciicast::new().fail_closed(true).record(disk);
    // The failure is that of another event.
    let passing = async {
        tap.passes(Passing::Stdout(b"x")).unwrap();
        sleep(SOON).await;
    };
    let ended = timeout(2 * SOON, async { tokio::join!(tap.over(), passing).0 }).await;
    let ended = ended.expect("the session ends");
    assert!(ended.to_string().contains("no space left"), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_before_it_is_written() {
    let (disk, room) = Disk::with(usize::MAX);
    room.send_replace(None);
    let (tap, _written) = Asciicast::new().input(true).record(disk.clone());
    let (told, mut input) = mpsc::unbounded_channel();
    let wires = Wires::default();
    let remote = exec(&wires, ALL, tap, move |mut io| {
        let told = told.clone();
        async move {
            let mut stdout = io.stdout.take().unwrap();
            let mut stdin = io.stdin.take().unwrap();
            let sending = async { Ok(stdout.write_all(&[b'o'; 1 << 20]).await?) };
            let receiving = async {
                while let Some(piece) = stdin.next().await {
                    told.send(piece?.len())?;
                }
                Ok::<_, BoxError>(())
            };
            tokio::try_join!(sending, receiving)?;
            Ok(Exit::SUCCESS)
        }
    });
    let mut remote = remote.await;
    let mut stdin = remote.stdin.take().unwrap();
    let mut stdout = remote.stdout.take().unwrap();
    let upload = tokio::spawn(async move {
        stdin.write_all(&[b'i'; 1 << 20]).await.unwrap();
        stdin
    });
    let first = timeout(SOON, stdout.read(&mut [0])).await;
    assert!(first.is_err() && input.try_recv().is_err(), "{first:?}");
    room.send_replace(Some(usize::MAX));
    let mut output = vec![0; 1 << 20];
    let read = timeout(SOON, stdout.read_exact(&mut output)).await;
    read.expect("it goes on").unwrap();
    timeout(SOON, upload).await.expect("it goes on").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_marked_and_a_session_without_events_has_a_head() {
    let (disk, wires) = (Disk::new(), Wires::default());
    let (tap, written) = Asciicast::new().record(disk.clone());
    let remote = exec(&wires, ALL, tap, |mut io| async move {
        io.client.gone().await;
        Ok(Exit::SUCCESS)
    })
    .await;
    wires.cut();
    timeout(SOON, written).await.unwrap().unwrap().unwrap();
    let (head, recorded) = disk.events();
    assert_eq!((&head["width"], &head["height"]), (&80.into(), &24.into()));
    assert_eq!(recorded, events(&[("m", "client is gone")]));
    drop(remote);

    let disk = Disk::new();
    let size = Size {
        width: 10,
        height: 5,
    };
    let (tap, written) = Asciicast::new().size(size).record(disk.clone());
    drop(tap);
    timeout(SOON, written).await.unwrap().unwrap().unwrap();
    let (head, recorded) = disk.events();
    assert_eq!((&head["width"], recorded.len()), (&10.into(), 0));
}
