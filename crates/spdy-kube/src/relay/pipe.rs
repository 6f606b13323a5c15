//! One stream of a command, on its way through the tap.

use std::{
    io,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use super::{
    batch::Batch,
    command::{CommandTap, Passing, TELL},
};
use crate::{BoxError, client::Input, stdio::Stdout};

/// Where the pieces of a stream go.
pub(super) trait Onward {
    /// Waits for room and sends a piece. Fails if no more is wanted.
    fn send(&mut self, piece: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

impl Onward for Input {
    fn send(&mut self, piece: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        self.send(piece)
    }
}

impl Onward for Stdout {
    fn send(&mut self, piece: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        self.send(piece)
    }
}

/// Why no more of a stream passes.
pub(super) enum Over {
    /// It has ended, and all of it has passed.
    Ended,
    /// It broke off, and what came before has passed.
    Lost(io::Error),
    /// The receiver wants no more of it.
    Unwanted,
    /// The tap has refused what follows. What came before has passed, unless that took longer than
    /// [`TELL`].
    Refused(BoxError),
}

/// Passes a stream on. While the tap settles what is in front, it sees what follows, up to
/// [`AHEAD`] batches more.
///
/// A recording has three steps for each batch, on as many threads: the text is made, written, and
/// reported. One batch at a time would wait for each of them.
pub(super) async fn pass(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>,
    to: &mut impl Onward,
    tap: &impl CommandTap,
    what: impl for<'a> Fn(&'a [u8]) -> Passing<'a>,
) -> Over {
    let (allow, mut allowed) = mpsc::channel(AHEAD);
    let asking = async move {
        let mut batch = Batch::default();
        loop {
            match batch.fill(&mut next).await {
                Ok(true) => {}
                Ok(false) => return Over::Ended,
                Err(error) => return Over::Lost(error),
            }
            for piece in batch.pieces() {
                if let Err(why) = tap.passes(what(piece)) {
                    return Over::Refused(why);
                }
            }
            let pieces: Vec<_> = batch.drain().collect();
            if allow.send((tap.settled(), pieces)).await.is_err() {
                return Over::Unwanted;
            }
        }
    };
    let passing = async {
        while let Some((settled, pieces)) = allowed.recv().await {
            settled.await.map_err(Over::Refused)?;
            for piece in pieces {
                to.send(piece).await.map_err(|_| Over::Unwanted)?;
            }
        }
        Ok(())
    };
    let (mut asking, mut passing) = (pin!(asking), pin!(passing));
    let over = tokio::select! {
        biased;
        // It ends only when it fails, while `asking` goes on.
        Err(over) = &mut passing => return over,
        over = &mut asking => over,
    };
    match over {
        // A receiver that takes nothing does not keep the session.
        Over::Refused(_) => _ = timeout(TELL, passing).await,
        _ => {
            if let Err(over) = passing.await {
                return over;
            }
        }
    }
    over
}

/// How many batches a tap sees in front of those that it has settled, beside one that waits for
/// room here.
const AHEAD: usize = 1;

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use tokio::sync::Semaphore;

    use super::*;

    /// A tap that settles when it is told to, and refuses a `!`.
    struct Slow {
        seen: Arc<Mutex<Vec<u8>>>,
        settles: Semaphore,
    }

    impl Slow {
        fn new() -> Self {
            Self {
                seen: Arc::default(),
                settles: Semaphore::new(0),
            }
        }
    }

    impl CommandTap for Slow {
        fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
            let Passing::Stdout(bytes) = what else {
                panic!("{what:?}");
            };
            if bytes == b"!" {
                return Err("no".into());
            }
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }

        async fn settled(&self) -> Result<(), BoxError> {
            self.settles.acquire().await?.forget();
            Ok(())
        }
    }

    /// Takes nothing.
    struct Full;

    impl Onward for Full {
        async fn send(&mut self, _: Bytes) -> io::Result<()> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_wait_for_a_receiver_that_takes_nothing() {
        let tap = Slow::new();
        tap.settles.add_permits(1);
        let mut pieces = [&b"a"[..], b"!"].into_iter();
        let mut is_pause = false;
        let next = |cx: &mut Context<'_>| {
            is_pause = !is_pause;
            if is_pause {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(pieces.next().map(|piece| Ok(Bytes::from_static(piece))))
        };
        let start = tokio::time::Instant::now();
        let mut to = Full;
        let passing = pass(next, &mut to, &tap, |bytes| Passing::Stdout(bytes));
        let over = timeout(2 * TELL, passing).await.expect("it waits");
        assert!(matches!(over, Over::Refused(_)));
        assert_eq!(start.elapsed(), TELL);
    }

    /// What has passed. After this number of pieces no more is wanted.
    struct Passed(Arc<Mutex<Vec<u8>>>, usize);

    impl Onward for Passed {
        async fn send(&mut self, piece: Bytes) -> io::Result<()> {
            let Some(rest) = self.1.checked_sub(1) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            self.1 = rest;
            self.0.lock().unwrap().extend_from_slice(&piece);
            Ok(())
        }
    }

    /// Passes pieces that arrive one by one, and then this end. Before each batch settles, `look`
    /// gets how much the tap has seen and how much has passed.
    async fn run(
        pieces: &[&'static [u8]],
        end: Option<io::Error>,
        wanted: usize,
        mut look: impl FnMut(usize, usize),
    ) -> (Over, Vec<u8>) {
        let tap = Slow::new();
        let passed = Arc::<Mutex<Vec<u8>>>::default();
        let mut pieces: VecDeque<_> = pieces.iter().copied().map(Bytes::from_static).collect();
        let (mut end, mut is_pause) = (end.map(Err), false);
        let next = |cx: &mut Context<'_>| {
            is_pause = !is_pause;
            if is_pause {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(pieces.pop_front().map(Ok).or_else(|| end.take()))
        };
        let mut to = Passed(Arc::clone(&passed), wanted);
        let passing = pass(next, &mut to, &tap, |bytes| Passing::Stdout(bytes));
        let settling = async {
            loop {
                // Everything that can happen happens.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                look(tap.seen.lock().unwrap().len(), passed.lock().unwrap().len());
                tap.settles.add_permits(1);
            }
        };
        let over = tokio::select! {
            over = passing => over,
            () = settling => unreachable!(),
        };
        let passed = passed.lock().unwrap().clone();
        (over, passed)
    }

    #[tokio::test]
    async fn a_tap_sees_what_follows_but_not_too_much_and_nothing_passes_before_it_settles() {
        let pieces: Vec<&[u8]> = b"abcdefghi".chunks(1).collect();
        let mut states = Vec::new();
        let (over, passed) = run(&pieces, None, usize::MAX, |seen, passed| {
            states.push((seen, passed));
        })
        .await;
        assert!(matches!(over, Over::Ended));
        assert_eq!(passed, b"abcdefghi");
        // One settles, one is ahead, and one waits for room.
        let ahead = AHEAD + 2;
        let expected: Vec<_> = (0..9)
            .map(|passed| ((passed + ahead).min(9), passed))
            .collect();
        assert_eq!(states, expected);
    }

    #[tokio::test]
    async fn what_came_before_an_end_has_passed() {
        let lost = || Some(io::Error::from(io::ErrorKind::ConnectionReset));
        let (over, passed) = run(&[b"a", b"b"], lost(), usize::MAX, |_, _| ()).await;
        assert!(matches!(over, Over::Lost(_)));
        assert_eq!(passed, b"ab");
        let (over, passed) = run(&[b"a", b"b", b"!", b"c"], None, usize::MAX, |_, _| ()).await;
        assert!(matches!(over, Over::Refused(why) if why.to_string() == "no"));
        assert_eq!(passed, b"ab");
        let (over, passed) = run(&[b"a", b"b", b"c"], None, 1, |_, _| ()).await;
        assert!(matches!(over, Over::Unwanted));
        assert_eq!(passed, b"a");
    }
}
