use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A transport of which the system has sent everything at this time.
struct Probe {
    io: DuplexStream,
    sent: Option<Instant>,
    is_reset: Arc<AtomicBool>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

/// How a transport was shut down.
struct Shut {
    took: Duration,
    is_reset: bool,
    asked: usize,
}

impl Fails for Probe {
    fn failure(&self) -> Option<io::Error> {
        None
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn is_sent(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
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

async fn shut(sent_after: Option<Duration>, tell: impl FnOnce(&Tail)) -> Shut {
    let (near, mut far) = duplex(64);
    let (tail, is_reset, asked) = (Tail::default(), Arc::default(), Arc::default());
    let probe = Probe {
        io: near,
        sent: sent_after.map(|time| Instant::now() + time),
        is_reset: Arc::clone(&is_reset),
        asked: Arc::clone(&asked),
    };
    let mut io = Tailed::new(probe, tail.clone());
    tell(&tail);
    io.write_all(b"x").await.unwrap();
    let begun = Instant::now();
    _ = io.shutdown().await;
    let took = begun.elapsed();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
    drop(io);
    Shut {
        took,
        is_reset: is_reset.load(Ordering::Relaxed),
        asked: asked.load(Ordering::Relaxed),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_waits_for_the_bytes_before_it_and_no_longer_than_a_while() {
    let [short, second] = [5, 1000].map(Duration::from_millis);
    for (sent_after, expected, pause, most) in [
        (None, LINGER, Duration::ZERO, 30),
        (Some(second), second, LONGEST_PAUSE, 11),
        (Some(short), short, SHORTEST_PAUSE, 3),
    ] {
        let shut = shut(sent_after, Tail::cut).await;
        let took = shut.took;
        assert!(took >= expected && took <= expected + pause, "{took:?}");
        assert!(shut.is_reset && shut.asked <= most, "{}", shut.asked);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_whose_end_was_told_are_no_cut() {
    for tell in [Tail::open, |_: &Tail| {}] {
        let shut = shut(None, tell).await;
        assert_eq!((shut.took, shut.is_reset), (Duration::ZERO, false));
    }
}
