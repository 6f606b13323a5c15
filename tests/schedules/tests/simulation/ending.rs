//! How a schedule comes to rest, and what has to be true then.

use spdy_frame::{Side, StreamId};
use spdy_session::proto::Phase;
use spdy_tests::machine::id;

use crate::{Plan, SIDES, Simulation};

impl Simulation {
    /// Lets both sides do what is left to do, as applications that wish each other well.
    pub(crate) fn finish_all(&mut self) {
        for side in SIDES {
            if self.sides.iter().all(|books| !books.over) {
                let limits = &self.pair.side(side).config().limits;
                let (window, streams) = (limits.stream_window, limits.max_streams);
                self.slip_in_settings(side, window, streams);
            }
        }
        for _ in 0..10_000 {
            let mut moved = false;
            for side in SIDES {
                moved |= self.pair.transmit(side, usize::MAX) > 0;
            }
            for side in SIDES {
                moved |= self.pair.deliver(side, usize::MAX);
                self.note_events();
                moved |= self.settle(side);
                self.note_events();
                self.check();
            }
            if !moved && !self.close_transport() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Accepts, finishes and reads everything on one side. Returns whether there was something.
    fn settle(&mut self, side: Side) -> bool {
        let mut moved = false;
        let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
        for number in numbers {
            self.pair.side(side).accept(id(number));
            let stream = self.stream(side, number).clone();
            if stream.may_send {
                self.pair.side(side).finish(id(number)).unwrap();
                let stream = self.stream(side, number);
                (stream.may_send, stream.finished, stream.replied) = (false, true, true);
                moved = true;
            }
            if stream.unread > 0 {
                self.pair.side(side).consume(id(number), stream.unread);
                self.stream(side, number).unread = 0;
                moved = true;
            }
        }
        moved
    }

    /// Once a side has written its last byte and all have arrived, the other one learns of the end.
    fn close_transport(&mut self) -> bool {
        let mut moved = false;
        for side in SIDES {
            let is_over = self.pair.side(side).phase() == Phase::Closing;
            if is_over && self.pair.side(side.peer()).phase() != Phase::Closing {
                self.pair.lose(side.peer());
                moved = true;
            }
        }
        self.note_events();
        moved
    }

    pub(crate) fn check_end(&mut self) {
        for side in SIDES {
            let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
            for number in &numbers {
                self.pair.side(side).release(id(*number));
            }
            let stats = self.pair.side(side).stats();
            assert_eq!(
                stats,
                Default::default(),
                "{side}: {:#?}\n{:?}",
                [0, 1].map(|n: usize| self.sides[n].streams.clone()),
                [
                    self.pair.under_way(Side::Client),
                    self.pair.under_way(Side::Server)
                ]
            );
            for number in numbers {
                self.check_stream_end(side, number);
            }
        }
        if self.plan == Plan::Orderly {
            for side in SIDES {
                assert!(self.pair.side(side).outcome().is_ok());
                assert_eq!(self.pair.side(side).phase(), Phase::Open);
                assert_eq!(self.books(side).pings, 0, "every PING is answered");
            }
            self.pair.assert_clean();
        }
    }

    /// What a side has sent, the other one has, or it knows of an error.
    fn check_stream_end(&mut self, side: Side, number: u32) {
        let here = self.stream(side, number).clone();
        let there = self.sides[side.peer() as usize].streams.get(&number);
        if here.end.is_none() {
            assert!(
                here.fin_sent || here.finished && here.queued == 0 || here.dropped,
                "{here:?}"
            );
            assert!(
                here.ended || here.dropped,
                "{number} waits for ever: {here:?}"
            );
        }
        let Some(there) = there else {
            assert!(
                here.end.is_some() || here.finished,
                "a stream that was not seen fails: {here:?}"
            );
            return;
        };
        if there.ended && StreamId::new(number).is_some() && there.end.is_none() && !there.dropped {
            assert!(here.finished, "{number}: FIN comes only if it was sent");
            assert_eq!(
                there.received, here.queued,
                "{number} of {side} is complete"
            );
        }
    }
}
