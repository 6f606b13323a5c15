//! All that waits to go out.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, mem,
};

use bytes::Buf;
use spdy_frame::{
    Data, GoAway, GoAwayStatus, Ping, RstStatus, RstStream, Setting, Settings, StreamId,
    WindowIncrement,
};

use crate::proto::{
    role::Role,
    scheduler::{Need, Scheduler},
    streams::{Next, Stream, StreamRef, Taken},
    transmit::{Outbound, Transmit},
    wait::{Stall, Wait},
};

/// All queues towards the peer.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) pongs: VecDeque<u32>,
    pub(super) control: VecDeque<Control>,
    /// How many of `control` are replies that the peer caused.
    pub(super) resets: usize,
    /// How many replies are in `transmit`.
    pub(super) replies_ready: usize,
    /// Credit of the session that is to be announced beside the regular one.
    pub(super) session_credit: Option<WindowIncrement>,
    /// Streams to which credit is due.
    pub(super) credit_due: Vec<StreamId>,
    /// Streams whose SYN_STREAM or SYN_REPLY is due, in the order of the calls.
    pub(super) openings: VecDeque<StreamId>,
    pub(super) scheduler: Scheduler,
    /// Since when the streams of the scheduler wait for the session's window.
    pub(super) stall: Option<Stall>,
    /// Streams that wait for their own window, those in front that need the least.
    pub(super) blocked: BTreeSet<(i64, StreamId)>,
    pub(super) go_away_sent: bool,
    pub(super) transmit: Transmit,
    /// Octets written from the start until `transmit` was last looked at.
    pub(super) written: u64,
}

/// A control frame without a header block.
#[derive(Debug)]
pub(super) enum Control {
    Reset(RstStream),
    Ping(Ping),
    GoAway(GoAway),
    Settings(Settings),
    /// DATA that says nothing.
    Empty(StreamId),
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(frame) => frame.fmt(f),
            Self::Ping(frame) => frame.fmt(f),
            Self::GoAway(frame) => frame.fmt(f),
            Self::Settings(frame) => frame.fmt(f),
            Self::Empty(stream) => write!(f, "DATA stream={stream} fin=false length=0"),
        }
    }
}

impl Output {
    pub(super) fn reset(&mut self, stream: StreamId, status: RstStatus) {
        self.resets += 1;
        self.control
            .push_back(Control::Reset(RstStream { stream, status }));
    }

    pub(super) fn ping(&mut self, id: u32) {
        self.control.push_back(Control::Ping(Ping { id }));
    }

    /// Nothing of the stream that is written later, its end or a reset, comes before this.
    pub(super) fn empty_data(&mut self, stream: StreamId) {
        self.control.push_back(Control::Empty(stream));
    }

    pub(super) fn pong(&mut self, id: u32) {
        self.pongs.push_back(id);
    }

    pub(super) fn settings(&mut self, entries: Vec<Setting>) {
        self.control.push_back(Control::Settings(Settings {
            clear: false,
            entries,
        }));
    }

    pub(super) fn go_away(&mut self, last_good: Option<StreamId>, status: GoAwayStatus) {
        self.go_away_sent = true;
        self.control
            .push_back(Control::GoAway(GoAway { last_good, status }));
    }

    /// How many frames wait that the peer caused, those that the transport has not taken among them.
    pub(super) fn replies(&self) -> usize {
        self.pongs.len() + self.resets + self.replies_ready
    }

    /// Puts a stream into the scheduler if it has something to write and is not waiting for anything.
    #[inline]
    pub(super) fn schedule(&mut self, role: Role, stream: &mut Stream) {
        let need = match stream.next() {
            // A stream that waits for its window may still say HEADERS and FIN.
            Some(Next::Data(_)) if stream.blocked.is_on() => return,
            Some(Next::Data(_)) if role.has_session_window() => Need::Window,
            Some(_) => Need::Nothing,
            None => return,
        };
        if stream.scheduled || stream.has_opening() {
            return;
        }
        stream.scheduled = true;
        if stream.is_cut {
            self.scheduler.push_front(stream.id(), stream.priority());
        } else {
            self.scheduler.push(stream.id(), stream.priority(), need);
        }
    }

    /// A frame of a stream was written, with FIN or without. Returns whether the stream is closed.
    #[must_use]
    pub(super) fn wrote(&mut self, role: Role, stream: &mut StreamRef<'_>, fin: bool) -> bool {
        if !fin {
            self.schedule(role, stream);
            return false;
        }
        stream.fin_written();
        if mem::take(&mut stream.window_awaited) {
            stream.blocked = Wait::default();
            let shortfall = stream.send_window().shortfall();
            self.blocked.remove(&(shortfall, stream.id()));
        }
        stream.is_closed()
    }

    /// Makes a DATA frame ready.
    pub(super) fn data(&mut self, stream: StreamId, fin: bool, taken: Taken) {
        let Taken {
            payload,
            keeps_long,
        } = taken;
        Data::encode_head(stream, fin, payload.len() as u32, self.transmit.frames());
        self.transmit.push_payload(payload);
        if keeps_long {
            self.transmit.note_long();
        }
        self.transmit.list(Outbound::Data { stream, fin });
    }

    /// Whether octets wait for the transport.
    pub(super) fn is_waiting(&self) -> bool {
        self.transmit.has_remaining()
    }

    /// Drops all that an ended session does not send any more.
    pub(super) fn stop(&mut self) {
        self.pongs.clear();
        self.openings.clear();
        self.credit_due.clear();
        self.session_credit = None;
        self.scheduler.clear();
        self.stall = None;
        self.blocked.clear();
    }

    /// Drops everything: the transport is gone.
    pub(super) fn discard_all(&mut self) {
        self.stop();
        self.control.clear();
        self.resets = 0;
        self.replies_ready = 0;
        self.transmit.clear();
    }

    /// Gives the memory back that a session does not need which is idle, or whose transport takes nothing.
    pub(super) fn release(&mut self) {
        self.transmit.release();
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
    }

    /// Takes a stream that is gone out of all queues: so they hold live streams only, which are bounded.
    pub(super) fn unlist(&mut self, stream: &Stream) {
        let id = stream.id();
        if stream.has_opening() {
            self.openings.retain(|&other| other != id);
        }
        if stream.scheduled {
            self.scheduler.remove(id, stream.priority());
        }
        if stream.blocked.is_on() {
            self.blocked.remove(&(stream.send_window().shortfall(), id));
        }
        if stream.is_credit_due() {
            self.credit_due.retain(|&other| other != id);
        }
    }

    /// How many octets were written since the last look.
    pub(super) fn take_progress(&mut self) -> u64 {
        let written = self.transmit.taken();
        written - mem::replace(&mut self.written, written)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use spdy_frame::{HeaderBlock, Side, Version};

    use super::*;
    use crate::{
        config::Config,
        proto::connection::{Connection, Open},
    };

    /// Opens three streams with more payload than the session's window takes.
    fn client(now: Instant) -> (Connection, [StreamId; 3]) {
        let config = Arc::new(Config::default());
        let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
        let streams = [(); 3].map(|()| {
            let stream = client.open(now, HeaderBlock::new(), Open::default());
            let stream = stream.expect("there is no limit yet");
            let payload = vec![0; 60_000].into();
            client
                .send_data(stream, payload, false)
                .expect("it is open");
            stream
        });
        (client, streams)
    }

    fn write_all(client: &mut Connection, now: Instant) {
        while client.poll_transmit(now).has_remaining() {
            let out = client.poll_transmit(now);
            out.advance(out.remaining());
        }
    }

    #[test]
    fn streams_that_are_gone_leave_the_queues() {
        let now = Instant::now();
        let (mut client, streams) = client(now);
        client.reset(streams[1], RstStatus::CANCEL);
        assert_eq!(client.output.openings, [streams[0], streams[2]]);

        write_all(&mut client, now);
        let waiting = |client: &Connection| client.output.scheduler.payload().count();
        assert_eq!(waiting(&client), 2);
        client.reset(streams[0], RstStatus::CANCEL);
        assert_eq!(waiting(&client), 1);
        client.reset(streams[2], RstStatus::CANCEL);
        assert_eq!(client.output.scheduler.pop(true), None);
        assert_eq!(client.stats().unsent, 0);
    }
}
