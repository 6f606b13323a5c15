//! What applications of both sides do with the two halves of a stream.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use spdy_session::{HeaderBlock, Received, RecvStream, RstStatus, SendStream, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use crate::{
    executor::{Kind, Spawner},
    holder::SharedHolder,
    random::Random,
};

/// One side's handle, and what its tasks need.
pub(crate) struct Side {
    pub(crate) session: Session,
    /// Learns what was reported as written.
    pub(crate) holder: SharedHolder,
    pub(crate) spawner: Spawner,
    pub(crate) random: Random,
    /// How many bytes a body has at most.
    pub(crate) body: usize,
    /// Many bodies are large.
    pub(crate) is_heavy: bool,
    /// Of tasks that write.
    pub(crate) writer: Kind,
}

impl Side {
    pub(crate) fn fork(&mut self) -> Self {
        Self {
            session: self.session.clone(),
            holder: Rc::clone(&self.holder),
            spawner: self.spawner.clone(),
            random: self.random.fork(),
            body: self.body,
            is_heavy: self.is_heavy,
            writer: self.writer,
        }
    }

    /// Waits now and then.
    pub(crate) async fn pause(&mut self) {
        if self.random.one_in(4) {
            sleep(self.random.time(20)).await;
            self.spawner.step();
        }
    }

    /// Most bodies are small.
    fn size(&mut self) -> usize {
        let most = match self.is_heavy {
            true => self.random.of(&[300, 10_000, 30_000, 100_000]),
            false => self.random.of(&[1, 10, 300, 300, 3000, 100_000]),
        };
        self.random.below(most.min(self.body) + 1)
    }

    /// Begins a task that sends on a stream.
    pub(crate) fn send(&mut self, send: SendStream) {
        let side = self.fork();
        self.spawner
            .spawn("sender", self.writer, side.send_body(send));
    }

    /// Begins a task that receives on a stream.
    pub(crate) fn receive(&mut self, recv: RecvStream, is_reply_due: bool) {
        let side = self.fork();
        self.spawner.spawn(
            "receiver",
            Kind::Work,
            side.receive_body(recv, is_reply_due),
        );
    }

    async fn send_body(mut self, mut send: SendStream) {
        for _ in 0..self.random.below(4) {
            self.pause().await;
            if self.send_piece(&mut send).await.is_none() {
                return;
            }
            self.spawner.step();
        }
        self.pause().await;
        match self.random.below(9) {
            0 => {}
            1 => send.reset(RstStatus::CANCEL),
            2 => drop(send.send_headers(block("last"), true)),
            3 => {
                _ = send.finish();
                send.closed().await;
            }
            4 => {
                _ = timeout(self.random.time(50), send.closed()).await;
                _ = send.finish();
            }
            5 => drop(send.finish()),
            6 => {
                if send.shutdown().await.is_ok() {
                    self.holder.borrow_mut().written(send.id());
                }
            }
            _ => {
                _ = send.finish();
                self.written(&mut send).await;
            }
        }
        self.spawner.step();
    }

    /// Waits until a stream is written.
    pub(crate) async fn written(&self, send: &mut SendStream) {
        if send.written().await.is_ok() {
            self.holder.borrow_mut().written(send.id());
        }
    }

    /// Sends a piece one way or another; `None` when the stream takes no more.
    async fn send_piece(&mut self, send: &mut SendStream) -> Option<()> {
        let size = self.size();
        match self.random.below(6) {
            0 => send.send_headers(block("more"), false).ok(),
            // Without a look at the room there is, which is allowed.
            1 => send.send_data(Bytes::from(vec![1; size]), false).ok(),
            2 => send.write_all(&vec![2; size]).await.ok(),
            3 => {
                send.write_all(&vec![3; size]).await.ok()?;
                send.flush().await.ok()
            }
            _ => {
                for piece in vec![4; size].chunks(700) {
                    send.ready().await.ok()?;
                    self.spawner.step();
                    send.send_data(Bytes::copy_from_slice(piece), false).ok()?;
                }
                Some(())
            }
        }
    }

    async fn receive_body(mut self, mut recv: RecvStream, is_reply_due: bool) {
        self.pause().await;
        if is_reply_due && self.random.one_in(2) {
            _ = recv.response_headers().await;
            self.spawner.step();
        }
        match self.random.below(8) {
            0 => return,
            1 => {
                // The application holds on to what it does not read.
                sleep(self.random.time(300)).await;
                return;
            }
            2 => {
                let mut buf = [0; 100];
                while recv.read(&mut buf).await.is_ok_and(|read| read > 0) {
                    self.spawner.step();
                    self.pause().await;
                }
                return;
            }
            3 => {
                _ = timeout(self.random.time(100), recv.next_headers()).await;
                self.spawner.step();
            }
            4 => {
                for _ in 0..self.random.below(3) {
                    _ = recv.next().await;
                    self.spawner.step();
                }
                if self.random.one_in(2) {
                    return recv.reset(RstStatus::CANCEL);
                }
                sleep(self.random.time(200)).await;
            }
            _ => {}
        }
        let is_slow = self.random.one_in(3);
        while let Some(Ok(_)) = recv.next().await {
            self.spawner.step();
            if is_slow {
                self.pause().await;
            }
        }
        self.pause().await;
    }

    /// Echoes everything, in one task.
    pub(crate) async fn echo(self, mut recv: RecvStream, mut send: SendStream) {
        while let Some(Ok(received)) = recv.next().await {
            self.spawner.step();
            if let Received::Data(payload) = received {
                let sent = match send.ready().await {
                    Ok(()) => send.send_data(payload, false),
                    error => error,
                };
                if sent.is_err() {
                    return;
                }
                self.spawner.step();
            }
        }
        _ = send.finish();
        _ = timeout(Duration::from_millis(100), self.written(&mut send)).await;
    }
}

pub(crate) fn block(value: &str) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    block.append("x", value).unwrap();
    block
}
