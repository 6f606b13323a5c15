//! What has come on a channel and waits to be read.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::stdio::{Piece, Pieces};

/// Returns the two ends of a channel's queue.
pub(crate) fn queue() -> (Queue, Pieces) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Queue(Some(sender)), Pieces::new(receiver))
}

/// Where the messages of one channel go. Dropped, the channel breaks off.
#[derive(Debug, Default)]
pub(crate) struct Queue(Option<mpsc::Sender<Piece>>);

impl Queue {
    /// Hands over a piece. Waits while the queue is full: the peer is held up then. What nobody wants is thrown away.
    ///
    /// A long piece waits until the queue is empty, so that no more than one is queued, one is being read and one waits.
    pub(crate) async fn data(&mut self, piece: Bytes) {
        let slots = if piece.len() > PIECE { QUEUE } else { 1 };
        let Some(sender) = &self.0 else {
            return;
        };
        let sent = match sender.reserve_many(slots).await {
            Ok(mut places) => places.next().map(|place| place.send(Piece::Data(piece))),
            Err(_) => None,
        };
        if sent.is_none() {
            self.0 = None;
        }
    }

    /// Ends the channel, behind what is queued. Waits while the queue is full.
    pub(crate) async fn finish(&mut self) {
        if let Some(sender) = self.0.take() {
            _ = sender.send(Piece::End).await;
        }
    }
}

/// So many messages of a channel wait to be taken.
pub(crate) const QUEUE: usize = 4;

/// A message of ours has no more than this, in bytes, and one that has more is long.
pub(crate) const PIECE: usize = 32 * 1024;
