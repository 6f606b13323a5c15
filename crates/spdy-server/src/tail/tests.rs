use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A transport of which the system has sent everything at this time.
struct Probe {
    io: DuplexStream,
    sent: Option<Instant>,
    is_reset: Arc<AtomicBool>,
}

impl Fails for Probe {
    fn failure(&self) -> Option<io::Error> {
        None
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn is_sent(&self) -> bool {
        self.sent.is_some_and(|sent| sent <= Instant::now())
    }

    fn reset_when_dropped(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Probe {
    pass!(poll_read => io);
}

impl AsyncWrite for Probe {
    pass!(poll_write, poll_flush, poll_shutdown => io);
}

/// Shuts a transport down. Returns how long that took, and whether its peer sees a reset.
async fn shut(sent_after: Option<Duration>, tell: impl FnOnce(&Tail)) -> (Duration, bool) {
    let (near, mut far) = duplex(64);
    let (tail, is_reset) = (Tail::default(), Arc::default());
    let probe = Probe {
        io: near,
        sent: sent_after.map(|time| Instant::now() + time),
        is_reset: Arc::clone(&is_reset),
    };
    let mut io = Tailed::new(probe, tail.clone());
    tell(&tail);
    io.write_all(b"x").await.unwrap();
    let begun = Instant::now();
    _ = io.shutdown().await;
    let took = begun.elapsed();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
    drop(io);
    (took, is_reset.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_cut_waits_for_the_bytes_before_it_and_no_longer_than_a_while() {
    let second = Duration::from_secs(1);
    for (sent_after, expected) in [(Some(second), second), (None, LINGER)] {
        let (took, is_reset) = shut(sent_after, Tail::cut).await;
        assert!(took >= expected && took < expected + 2 * PAUSE, "{took:?}");
        assert!(is_reset);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_whose_end_was_told_are_no_cut() {
    for tell in [Tail::open, |_: &Tail| {}] {
        assert_eq!(shut(None, tell).await, (Duration::ZERO, false));
    }
}
