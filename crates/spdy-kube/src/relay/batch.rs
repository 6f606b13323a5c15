//! Pieces of a stream that pass together.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::websocket::PIECE;

/// The pieces that have arrived on a stream by the time the last ones have passed.
///
/// A tap may take as long for one piece as for many, because it waits for a disk. So the faster the
/// stream is, the fewer the waits for each byte.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Bytes>,
    /// What did not fit.
    rest: Bytes,
    /// Whether that is a part of a long message.
    is_long: bool,
}

impl Batch {
    /// Waits for a piece, and takes all that have arrived behind it, up to [`MOST`] bytes and
    /// [`PIECES`] pieces. They replace the pieces of the last call. Returns `false` at the end of
    /// the stream. `next` has to return the end, or an error, again when it is asked again.
    pub(super) async fn fill<E>(
        &mut self,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, E>>>,
    ) -> Result<bool, E> {
        self.pieces.clear();
        let mut room = MOST;
        poll_fn(|cx| {
            while room > 0 && self.pieces.len() < PIECES {
                if self.rest.is_empty() {
                    match next(cx) {
                        Poll::Ready(Some(Ok(piece))) => {
                            self.is_long = piece.len() > PIECE;
                            self.rest = piece;
                        }
                        // It is returned after these pieces.
                        _ if !self.pieces.is_empty() => break,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Ready(None) => return Poll::Ready(Ok(false)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                // A message of a WebSocket can be long, and a tap may keep what it sees.
                let length = self.rest.len().min(PIECE).min(room);
                if length > 0 {
                    let piece = self.rest.split_to(length);
                    // On its way, a part would keep the memory of the whole message.
                    self.pieces.push(match self.is_long {
                        true => Bytes::copy_from_slice(&piece),
                        false => piece,
                    });
                    room -= length;
                }
            }
            Poll::Ready(Ok(true))
        })
        .await
    }

    /// Returns the pieces, none of which is longer than [`PIECE`].
    pub(super) fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Takes the pieces out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.pieces.drain(..)
    }
}

/// How many bytes pass together.
const MOST: usize = 2 * PIECE;

/// How many pieces pass together.
const PIECES: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// What a stream has at one moment.
    type Arrived = VecDeque<Poll<Option<Result<Bytes, &'static str>>>>;

    fn data(bytes: &[u8]) -> Poll<Option<Result<Bytes, &'static str>>> {
        Poll::Ready(Some(Ok(Bytes::copy_from_slice(bytes))))
    }

    /// Fills a batch until the stream ends. Returns the batches, and how it has ended.
    async fn batches(mut arrived: Arrived) -> (Vec<Vec<Bytes>>, Result<bool, &'static str>) {
        let (mut batch, mut seen) = (Batch::default(), Vec::new());
        loop {
            let next = |cx: &mut Context<'_>| match arrived.front() {
                Some(Poll::Ready(Some(Ok(_)))) => arrived.pop_front().unwrap(),
                Some(Poll::Pending) => {
                    cx.waker().wake_by_ref();
                    arrived.pop_front().unwrap()
                }
                Some(end) => end.clone(),
                None => Poll::Ready(None),
            };
            match batch.fill(next).await {
                Ok(true) => seen.push(batch.drain().collect()),
                end => return (seen, end),
            }
        }
    }

    #[tokio::test]
    async fn what_has_arrived_passes_together_and_the_end_comes_last() {
        let arrived = [
            Poll::Pending,
            data(b"a"),
            data(b""),
            data(b"bc"),
            Poll::Pending,
            data(b"d"),
            Poll::Ready(Some(Err("lost"))),
        ];
        let (seen, end) = batches(arrived.into()).await;
        assert_eq!(seen, [vec!["a", "bc"], vec!["d"]]);
        assert_eq!(end, Err("lost"));
    }

    #[tokio::test]
    async fn a_batch_of_short_pieces_has_a_limit() {
        let arrived: Vec<_> = (0..=2 * PIECES).map(|_| data(b"a")).collect();
        let (seen, _) = batches(arrived.into()).await;
        let lengths = seen.iter().map(Vec::len);
        assert_eq!(lengths.collect::<Vec<_>>(), [PIECES, PIECES, 1]);
    }

    #[tokio::test]
    async fn a_piece_does_not_keep_the_memory_of_a_longer_message() {
        let message = Bytes::from(vec![7; MOST]);
        let arrived = [Poll::Ready(Some(Ok(message.clone())))];
        let (seen, _) = batches(arrived.into()).await;
        assert_eq!(seen.concat().concat(), message);
        assert!(message.is_unique());
    }

    #[tokio::test]
    async fn a_batch_and_its_pieces_have_a_limit() {
        let long: Vec<u8> = (0..3 * MOST + 7).map(|at| (at % 251) as u8).collect();
        let (seen, end) = batches([data(b"first"), data(&long)].into()).await;
        assert_eq!(end, Ok(false));
        let lengths = |batch: &Vec<Bytes>| batch.iter().map(Bytes::len).sum::<usize>();
        assert!(seen.iter().all(|batch| lengths(batch) <= MOST));
        assert!(seen[..3].iter().all(|batch| lengths(batch) == MOST));
        assert!(seen.concat().iter().all(|piece| piece.len() <= PIECE));
        assert!(seen.concat().concat() == [b"first", &long[..]].concat());
    }
}
