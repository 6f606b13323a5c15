//! What has to be true after every step.

use spdy_frame::{Side, Version, WindowTarget};
use spdy_session::{FlowControl, Timeout, proto::Phase};
use spdy_tests::machine::{End, Happened, id};

use crate::{Fault, SIDES, Simulation, Stream, steps::pattern};

impl Simulation {
    pub(crate) fn note_events(&mut self) {
        for side in SIDES {
            for event in self.pair.all_events(side) {
                self.note(side, event);
            }
        }
    }

    fn note(&mut self, side: Side, event: Happened) {
        let books = &self.sides[side as usize];
        if let Some(stream) = event.stream().and_then(|number| books.streams.get(&number)) {
            let is_over = stream.end.is_some() && !is_giving_up(&event);
            assert!(!is_over, "{side}: {event:?} comes after the end");
        }
        match event {
            Happened::Opened {
                id: number,
                fin,
                unidirectional,
                ref fields,
                priority,
                ..
            } => {
                assert_eq!(fields[2], ("x-same".into(), "same".into()));
                let stream = Stream {
                    priority,
                    may_send: !unidirectional,
                    ended: fin,
                    finished: unidirectional,
                    fin_sent: unidirectional,
                    ..Stream::default()
                };
                let earlier = self.books(side).streams.insert(number, stream);
                assert!(earlier.is_none(), "a stream is opened once");
            }
            Happened::Replied { id, fin, .. } | Happened::Headers { id, fin, .. } => {
                let stream = self.stream(side, id);
                assert!(!stream.ended, "nothing comes after FIN");
                stream.ended = fin;
            }
            Happened::Data { id, payload, fin } => {
                let at = self.stream(side, id).received;
                let expected = pattern(id, side.peer(), at, payload.len());
                assert!(payload == expected, "the bytes of {id} at {at}");
                let stream = self.stream(side, id);
                assert!(!stream.ended && !stream.dropped, "{stream:?}");
                stream.received += payload.len();
                stream.unread += payload.len();
                stream.ended = fin;
            }
            Happened::Sent { id, bytes, fin } => {
                let stream = self.stream(side, id);
                assert!(!stream.fin_sent);
                stream.sent += bytes;
                assert!(stream.sent <= stream.queued);
                if fin {
                    assert!(
                        stream.finished && stream.sent == stream.queued,
                        "{stream:?}"
                    );
                    stream.fin_sent = true;
                }
            }
            Happened::Reset { id, end } => {
                let stream = self.stream(side, id);
                let is_closed = stream.ended && stream.fin_sent;
                if end == End::TimedOut(Timeout::Unread) {
                    // Also of a stream that is closed. What was not read counts for nothing any
                    // more.
                    stream.unread = 0;
                }
                assert!(
                    !is_closed || matches!(end, End::Local(_) | End::TimedOut(Timeout::Unread)),
                    "a stream that is closed does not fail: {stream:?} {end:?}"
                );
                assert!(
                    !matches!(end, End::Library(_)),
                    "no side breaks a rule: {end:?}"
                );
                stream.end = Some(end);
                stream.may_send = false;
                match end {
                    End::Remote(_) => self.faults.note(Fault::Reset),
                    End::NotProcessed => self.faults.note(Fault::Refused),
                    End::TimedOut(_) => self.faults.note(Fault::Timeout),
                    _ => {}
                }
            }
            Happened::Pong { .. } => self.books(side).pings -= 1,
            Happened::GoAway { .. } => {}
        }
    }

    pub(crate) fn check(&mut self) {
        for side in SIDES {
            let books = &self.sides[side as usize];
            let connection = self.pair.side(side);
            let (stats, limits) = (connection.stats(), &connection.config().limits);
            let unread: usize = books.streams.values().map(|stream| stream.unread).sum();
            assert_eq!(stats.unread, unread, "{side}");
            let unsent: usize = books
                .streams
                .values()
                .filter(|stream| stream.end.is_none())
                .map(|stream| stream.queued - stream.sent)
                .sum();
            assert_eq!(stats.unsent, unsent, "{side}");
            assert!(stats.backlog <= limits.max_backlog);
            assert!(stats.remote_streams + stats.cancelled <= 2 * limits.max_streams as usize);
            let session = connection.windows(WindowTarget::Session).unwrap();
            assert_eq!(session.unread, unread);
            let (version, flow_control) = (self.version, connection.config().flow_control);
            let most = if version == Version::V3_1 && flow_control == FlowControl::Enforce {
                session.size as usize
            } else {
                // Reading stops behind the frame that passes the limit, and frames are not longer
                // than the peer makes them.
                limits.session_buffer + 16_384
            };
            assert!(unread <= most, "{side} holds {unread} of {most} bytes");
            if connection.config().flow_control == FlowControl::Enforce {
                let sum = session.receive + session.unread as i64 + i64::from(session.returnable);
                assert_eq!(sum, i64::from(session.size), "{side}: credit is conserved");
                let (least, most) = match version {
                    Version::V3_1 => (limits.session_window, limits.max_session_window),
                    Version::V2 | Version::V3 => (65_536, 65_536),
                };
                let earlier = books.window.max(least);
                assert!(
                    (earlier..=most.max(least)).contains(&session.size),
                    "{session:?}"
                );
                if session.size > earlier {
                    self.faults.note(Fault::Growth);
                }
                self.sides[side as usize].window = session.size;
                if self.version == Version::V3_1 {
                    assert!(session.receive >= 0 && session.send >= 0);
                }
            }
            let is_over = connection.phase() == Phase::Closing;
            self.sides[side as usize].over |= is_over;
        }
    }

    /// When nothing is under way, what a side may send on a stream is what the other one lets it.
    pub(crate) fn check_windows(&mut self) {
        for side in SIDES {
            let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
            for number in numbers {
                self.check_stream_windows(side, number);
            }
        }
    }

    fn check_stream_windows(&mut self, side: Side, number: u32) {
        let peer = side.peer();
        let config = self.pair.side(peer).config();
        let is_off = config.flow_control == FlowControl::Off || !self.version.has_stream_windows();
        let enforced = config.limits.stream_window;
        let target = WindowTarget::Stream(id(number));
        let may_send = self.stream(side, number).may_send;
        let (Some(here), Some(there)) = (
            self.pair.side(side).windows(target),
            self.pair.side(peer).windows(target),
        ) else {
            return;
        };
        if is_off || !may_send || self.pair.under_way(side) + self.pair.under_way(peer) > 0 {
            return;
        }
        let kept_back = i64::from(enforced) - i64::from(self.announced[peer as usize]);
        assert_eq!(here.send, there.receive - kept_back, "{number} of {side}");
    }
}

/// Whether a stream is given up that its application has not read.
const fn is_giving_up(event: &Happened) -> bool {
    matches!(
        event,
        Happened::Reset {
            end: End::TimedOut(Timeout::Unread),
            ..
        }
    )
}
