//! The messages of a channel that wait to be read.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::stdio::{Piece, Pieces};

/// Returns the two ends of a channel's queue.
pub(crate) fn queue() -> (Queue, Pieces) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Queue(Some(sender)), Pieces::new(receiver))
}

/// The end of a channel's queue to which messages are added. Dropping it breaks the channel off.
#[derive(Debug, Default)]
pub(crate) struct Queue(Option<mpsc::Sender<Piece>>);

impl Queue {
    /// Adds a piece. Waits while the queue is full, which stops the peer. If the reader is gone,
    /// the piece is thrown away.
    ///
    /// A piece that is not long is copied: it can be a part of the memory of a longer message, and
    /// would keep all of that for as long as it is on its way.
    ///
    /// A long piece waits until the queue is empty. So at most one is queued, one is being read,
    /// and one waits here.
    pub(crate) async fn data(&mut self, piece: Bytes) {
        let slots = if piece.len() > PIECE { QUEUE } else { 1 };
        let Some(sender) = &self.0 else {
            return;
        };
        let piece = match slots {
            1 => Bytes::copy_from_slice(&piece),
            _ => piece,
        };
        let sent = match sender.reserve_many(slots).await {
            Ok(mut places) => places.next().map(|place| place.send(Piece::Data(piece))),
            Err(_) => None,
        };
        if sent.is_none() {
            self.0 = None;
        }
    }

    /// Ends the channel, after everything that is queued. Waits while the queue is full.
    pub(crate) async fn finish(&mut self) {
        if let Some(sender) = self.0.take() {
            _ = sender.send(Piece::End).await;
        }
    }
}

/// How many messages of a channel can wait to be read.
pub(crate) const QUEUE: usize = 4;

/// The longest message that this side sends, in bytes. A longer message of the peer counts as long.
pub(crate) const PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_short_piece_does_not_keep_the_memory_of_a_longer_message() {
        let (mut to, mut from) = queue();
        let message = Bytes::from(vec![7; 1 << 20]);
        to.data(message.slice(..PIECE)).await;
        assert!(message.is_unique());
        let piece = poll_fn(|cx| from.poll_next(cx)).await.unwrap().unwrap();
        assert_eq!(piece, message[..PIECE]);
    }
}
