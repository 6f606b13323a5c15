use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::{pass::pass, socket::Fails, tail::Tailed};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The room of each transport in memory.
const ROOM: usize = 1024;

/// A transport that can be asked whether its peer sees a reset.
struct Probe<IO> {
    io: IO,
    is_reset: Arc<AtomicBool>,
}

impl<IO> Fails for Probe<IO> {
    fn failure(&self) -> Option<io::Error> {
        None
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn is_sent(&self) -> bool {
        true
    }

    fn reset_when_dropped(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Probe<IO> {
    pass!(poll_read => io);
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Probe<IO> {
    pass!(poll_write, poll_flush, poll_shutdown => io);
}

/// A tunnel that runs.
struct Running {
    tunnel: JoinHandle<End>,
    resets: [Arc<AtomicBool>; 2],
}

impl Running {
    fn start<C, A>(client: C, application: A) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let resets = [Arc::default(), Arc::default()];
        let (client, application) = (side(client, &resets[0]), side(application, &resets[1]));
        let tunnel = Tunnel::new(client, application, Passed::default(), HOUR);
        Self {
            tunnel: tokio::spawn(tunnel),
            resets,
        }
    }

    /// Returns the reason of the end, and whether the client and the application see a reset.
    async fn end(self) -> (End, [bool; 2]) {
        let end = timeout(10 * HOUR, self.tunnel).await;
        let end = end.expect("the tunnel does not end").unwrap();
        (end, self.resets.map(|it| it.load(Ordering::Relaxed)))
    }
}

fn side<IO>(io: IO, is_reset: &Arc<AtomicBool>) -> Side<Tailed<Probe<IO>>> {
    let is_reset = Arc::clone(is_reset);
    let tail = Tail::default();
    Side::new(
        Tailed::new(Probe { io, is_reset }, tail.clone()),
        Some(tail),
    )
}

/// Returns the far ends of a tunnel, the client first, and the tunnel.
fn tunnel() -> (DuplexStream, DuplexStream, Running) {
    let ((client, near), (application, back)) = (duplex(ROOM), duplex(ROOM));
    (client, application, Running::start(near, back))
}

async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test(start_paused = true)]
async fn the_end_of_each_side_is_passed_on_and_the_other_goes_on() {
    let (mut client, mut application, tunnel) = tunnel();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut application).await, b"question");
    // Much later than any side may take to end.
    sleep(HOUR / 2).await;
    let long = vec![7; 100_000];
    let (answered, written) = tokio::join!(read_all(&mut client), async {
        application.write_all(&long).await.unwrap();
        application.shutdown().await
    });
    written.unwrap();
    assert_eq!(answered, long);
    assert_eq!(tunnel.end().await, (End::Whole, [false, false]));
}

#[tokio::test(start_paused = true)]
async fn a_client_may_go_on_after_the_end_of_the_application_and_not_be_silent_for_long() {
    let (mut client, mut application, tunnel) = tunnel();
    application.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"");
    for _ in 0..3 {
        sleep(ENDED * 9 / 10).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(application.read_u8().await.unwrap(), b'x');
    }
    let begun = Instant::now();
    assert_eq!(tunnel.end().await, (End::Silent, [false, true]));
    assert_eq!(begun.elapsed(), ENDED);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let (mut client, mut application, tunnel) = tunnel();
    for _ in 0..3 {
        sleep(HOUR * 9 / 10).await;
        client.write_all(b"x").await.unwrap();
        application.read_u8().await.unwrap();
    }
    let begun = Instant::now();
    assert_eq!(tunnel.end().await, (End::Silent, [true, true]));
    assert_eq!(begun.elapsed(), HOUR);
    assert_eq!(read_all(&mut client).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_a_buffer_for_an_hour() {
    let (mut client, mut application, tunnel) = tunnel();
    let begun = Instant::now();
    let mut held = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), application.write(&[7; 100])).await {
        held += written.unwrap();
    }
    assert!(held <= ROOM + BUFFER + ROOM, "{held}");
    // The other direction moves.
    let talking = tokio::spawn(async move {
        while client.write_u8(0).await.is_ok() {
            sleep(Duration::from_secs(60)).await;
        }
        client
    });
    let reading = tokio::spawn(async move { while application.read_u8().await.is_ok() {} });
    assert_eq!(tunnel.end().await, (End::Stalled, [true, true]));
    assert!(begun.elapsed().abs_diff(HOUR) < Duration::from_secs(10));
    reading.await.unwrap();
    talking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_the_tunnel() {
    let (client, mut application, tunnel) = tunnel();
    drop(client);
    // The client might have ended its direction alone. A byte shows that it takes none.
    application.write_all(b"answer").await.unwrap();
    assert_eq!(tunnel.end().await, (End::Left, [true, false]));
    assert_eq!(read_all(&mut application).await, b"");
}

/// A side that yields these bytes, then an end or an error, and takes nothing.
struct Refuses {
    sent: &'static [u8],
    end: Result<(), io::ErrorKind>,
    refusal: io::ErrorKind,
}

impl AsyncRead for Refuses {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sent.is_empty() {
            return Poll::Ready(self.end.map_err(Into::into));
        }
        let (piece, rest) = self.sent.split_at(self.sent.len().min(buf.remaining()));
        buf.put_slice(piece);
        self.sent = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Refuses {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.refusal.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;
const PIPE: io::ErrorKind = io::ErrorKind::BrokenPipe;

/// More than a transport in memory and the tunnel hold.
const LONG: &[u8] = &[7; 3 * BUFFER];

/// After a reset that a write has met, the system says that the peer has ended.
#[tokio::test(start_paused = true)]
async fn what_an_application_has_sent_before_it_broke_off_reaches_a_client_that_sends() {
    for (end, refusal, is_cut) in [
        (Err(RESET), PIPE, true),
        (Ok(()), RESET, TELLS_RESETS_ONCE),
        (Ok(()), PIPE, false),
    ] {
        let (mut client, near) = duplex(ROOM);
        // It waits in the transport when the tunnel begins.
        client.write_all(&[0; ROOM]).await.unwrap();
        let sent = LONG;
        let tunnel = Running::start(near, Refuses { sent, end, refusal });
        sleep(Duration::from_secs(1)).await;
        client.write_all(&[0; ROOM]).await.unwrap();
        assert_eq!(read_all(&mut client).await.len(), sent.len());
        drop(client);
        let expected = if is_cut { End::Broken } else { End::Whole };
        assert_eq!(tunnel.end().await, (expected, [is_cut, true]), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_has_sent_before_it_takes_nothing_more_reaches_the_application() {
    for (end, refusal, is_cut) in [
        (Err(RESET), PIPE, true),
        (Ok(()), RESET, TELLS_RESETS_ONCE),
        (Ok(()), PIPE, false),
    ] {
        let (mut application, back) = duplex(ROOM);
        // The client is found to take nothing before the first of its bytes has reached anyone.
        application.write_all(&[0; ROOM]).await.unwrap();
        let sent = LONG;
        let tunnel = Running::start(Refuses { sent, end, refusal }, back);
        sleep(LINGER * 9 / 10).await;
        assert_eq!(read_all(&mut application).await.len(), sent.len());
        assert_eq!(tunnel.end().await, (End::Left, [true, is_cut]), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_nothing_from_a_client_that_is_gone_is_given_up() {
    let (mut application, back) = duplex(ROOM);
    application.write_all(&[0; ROOM]).await.unwrap();
    let client = Refuses {
        sent: LONG,
        end: Ok(()),
        refusal: RESET,
    };
    let begun = Instant::now();
    let tunnel = Running::start(client, back);
    assert_eq!(tunnel.end().await, (End::Silent, [true, true]));
    assert_eq!(begun.elapsed(), LINGER);
}

/// An application that has said everything, and takes nothing.
const ENDED_AND_DEAF: Refuses = Refuses {
    sent: b"x",
    end: Ok(()),
    refusal: PIPE,
};

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_to_send_is_read_up_to_a_limit() {
    let (mut client, near) = duplex(ROOM);
    let tunnel = Running::start(near, ENDED_AND_DEAF);
    let mut sent = 0;
    while client.write_all(&[0; ROOM]).await.is_ok() {
        sent += ROOM;
    }
    assert!((MOST..=MOST + 2 * BUFFER).contains(&sent), "{sent}");
    assert_eq!(tunnel.end().await.0, End::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_to_send_is_read_for_so_long() {
    let (mut client, near) = duplex(ROOM);
    let tunnel = Running::start(near, ENDED_AND_DEAF);
    let begun = Instant::now();
    for _ in 0..1000 {
        if client.write_u8(0).await.is_err() {
            break;
        }
        sleep(LINGER * 9 / 10).await;
    }
    assert_eq!(tunnel.end().await.0, End::Silent);
    // The last byte met no one.
    assert!(begun.elapsed() < LONGEST + LINGER, "{:?}", begun.elapsed());
}
