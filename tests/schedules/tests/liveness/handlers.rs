//! The side of an application that accepts streams.

use bytes::Bytes;
use spdy_session::{
    Incoming, OpenOptions, PendingStream, RecvStream, RstStatus, SendReply, StreamId,
};
use tokio::time::sleep;

use crate::applications::{Side, block};

impl Side {
    /// Accepts streams, late at times, as long as the session lives.
    pub(crate) async fn serve(mut self, mut incoming: Incoming) {
        let most = match self.random.one_in(6) {
            true => self.random.below(5),
            false => usize::MAX,
        };
        let is_late = self.random.one_in(3);
        for _ in 0..most {
            if is_late {
                self.pause().await;
            }
            let Some(pending) = incoming.accept().await else {
                return;
            };
            self.spawner.step();
            let side = self.fork();
            self.spawner
                .spawn("handler", self.writer, side.handle(pending));
        }
        drop(incoming);
        // Its handle of the session lives on, or no stream of this side could wait for a place.
        _ = self.session.closed().await;
    }

    async fn handle(mut self, pending: PendingStream) {
        self.pause().await;
        if pending.is_unidirectional() {
            if let Ok(recv) = pending.into_recv() {
                self.receive(recv, false);
            }
            return;
        }
        match self.random.below(10) {
            0 => return,
            1 => return pending.reset(RstStatus::INTERNAL_ERROR),
            _ => {}
        }
        let id = pending.id();
        let (recv, reply) = pending.split();
        self.answer(id, recv, reply).await;
    }

    async fn answer(mut self, id: StreamId, recv: RecvStream, mut reply: SendReply) {
        match self.random.below(10) {
            0 => {
                sleep(self.random.time(300)).await;
            }
            1 => {
                if let Ok(send) = reply.send_reply(block("all"), true) {
                    self.receive(recv, false);
                    self.pause().await;
                    drop(send);
                }
            }
            2 => {
                self.receive(recv, false);
                let body = Bytes::from(vec![9; self.random.below(2000)]);
                _ = reply.send_reply_with(block("all"), body);
            }
            3 => {
                let closed = std::future::poll_fn(|cx| reply.poll_closed(cx));
                _ = tokio::time::timeout(self.random.time(100), closed).await;
            }
            4 => {
                if let Ok(send) = reply.send_reply(block("echo"), false) {
                    self.echo(recv, send).await;
                }
            }
            5 => {
                let Ok(send) = reply.send_reply(block("push"), false) else {
                    return;
                };
                self.push(id).await;
                self.receive(recv, false);
                self.send(send);
            }
            _ => {
                self.receive(recv, false);
                self.pause().await;
                if let Ok(send) = reply.send_reply(block("head"), false) {
                    self.send(send);
                }
            }
        }
    }

    async fn push(&mut self, associated: StreamId) {
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(associated)
            .fin(self.random.one_in(4));
        if let Ok(pushed) = self.session.open(block("pushed"), how).await {
            self.spawner.step();
            let (recv, send) = pushed.split();
            drop(recv);
            if !how.fin {
                self.send(send);
            }
        }
    }
}
