//! The side of an application that opens streams.

use std::time::Duration;

use spdy_session::{OpenError, OpenOptions, Priority, Stream};
use tokio::time::{sleep, timeout};

use crate::{
    applications::{Side, block},
    executor::Kind,
};

impl Side {
    /// Begins tasks that open streams.
    pub(crate) fn request(&mut self, tasks: usize) {
        for _ in 0..tasks {
            let side = self.fork();
            self.spawner.spawn("requester", Kind::Work, side.requests());
        }
    }

    async fn requests(mut self) {
        for _ in 0..1 + self.random.below(4) {
            self.pause().await;
            let goes_on = match self.random.below(10) {
                0 => self.ping().await,
                1 => self.give_up().await,
                _ => self.open_one().await,
            };
            self.spawner.step();
            if !goes_on {
                return;
            }
        }
    }

    async fn ping(&self) -> bool {
        let answer = self.session.ping().await;
        // At most 64 wait here, so none is given up before the session ends.
        answer.is_ok() || timeout(LONG, self.session.closed()).await.is_ok()
    }

    fn how(&mut self) -> OpenOptions {
        OpenOptions::new()
            .priority(Priority::new(self.random.below(8) as u8).unwrap())
            .fin(self.random.one_in(3))
    }

    /// Opens a stream and gives it up before or after it is open.
    async fn give_up(&mut self) -> bool {
        let how = self.how();
        let opening = self.session.open(block("given up"), how);
        if self.random.one_in(2) {
            _ = timeout(self.random.time(30), opening).await;
        }
        true
    }

    async fn open_one(&mut self) -> bool {
        let how = self.how();
        // A client that accepts no pushes has no place for streams of a server, ever.
        let opening = timeout(LONG, self.session.open(block("request"), how));
        let Ok(opened) = opening.await else {
            return false;
        };
        match opened {
            Ok(stream) => {
                self.spawner.step();
                self.exchange(stream, how.fin).await;
                true
            }
            Err(OpenError::TooManyStreams | OpenError::NoAssociatedStream) => {
                panic!("it is no push, so it waits")
            }
            Err(_) => false,
        }
    }

    async fn exchange(&mut self, mut stream: Stream, is_finished: bool) {
        match self.random.below(8) {
            0 => return,
            1 => return stream.reset(spdy_session::RstStatus::CANCEL),
            2 => {
                _ = timeout(self.random.time(30), stream.closed()).await;
            }
            3 => {
                _ = timeout(self.random.time(30), stream.response_headers()).await;
            }
            _ => {}
        }
        let (recv, mut send) = stream.split();
        self.receive(recv, true);
        if !is_finished {
            self.send(send);
        } else if self.random.one_in(2) {
            send.closed().await;
        } else if self.random.one_in(2) {
            self.written(&mut send).await;
        }
    }

    /// Ends the session at some moment, or waits for a while.
    pub(crate) async fn meddle(mut self) {
        sleep(self.random.time(100)).await;
        let deadline = self.random.one_in(2).then(|| self.random.time(200));
        self.holder.borrow_mut().ordered();
        self.session.shutdown(match self.random.below(3) {
            0 => spdy_session::Shutdown::Now,
            _ => spdy_session::Shutdown::Graceful { deadline },
        });
        if self.random.one_in(2) {
            // It may wait for long, but the session has to end when its streams have.
            _ = self.session.closed().await;
        }
    }
}

/// Longer than any application of a schedule holds a place.
const LONG: Duration = Duration::from_secs(20);
