//! The driver's work for the handles: it carries out their orders, and puts the events of the
//! machine into the shared state.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};
use tokio::sync::oneshot;

use crate::{
    OpenError, SessionError, StreamError, Timeout,
    memory::Share,
    proto::{Connection, Event, IdHasher, Opened, Outcome, PingId, held_size},
    shared::{
        backlog::Waiting,
        session::{self, Orders},
        stream_cell::{Birth, Hub, StreamCell},
    },
    spare::Spare,
};

/// The protocol machine, with the cells and tasks that wait for something from it.
pub(super) struct Dispatch {
    /// The session's part in the count of memory.
    share: Share,
    pub(super) connection: Connection,
    pub(super) hub: Arc<Hub>,
    pub(super) cells: Cells,
    /// The cells that had orders. It is empty between two turns, and kept for its allocation.
    ready: Vec<Arc<StreamCell>>,
    /// The streams that were accepted. It is kept for its allocation too.
    accepted: Vec<StreamId>,
    /// The size of the buffer of which payload is a slice.
    pub(super) read_buffer: usize,
    /// Made for the first of them. Most servers never open a stream or send a PING.
    pub(super) awaited: Option<Box<Awaited>>,
    /// The last value of [`Connection::holds_up_peer`] that the hub got.
    holds_up_peer: bool,
    /// The last value of [`Connection::can_open`] that the hub got.
    can_open: bool,
}

/// What the handles of the session wait for.
pub(super) struct Awaited {
    /// Streams that wait for a free place.
    pub(super) opens: VecDeque<OpenOrder>,
    /// At this number of waiting streams, the driver searches for those that were given up.
    most_opens: usize,
    pub(super) pings: VecDeque<(PingId, oneshot::Sender<Duration>)>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            opens: VecDeque::new(),
            most_opens: FEW_OPENS,
            pings: VecDeque::new(),
        }
    }
}

/// A stream that waits to be opened.
type OpenOrder = session::OpenOrder<StreamCell>;

/// The cells of streams whose handles may need further events.
type Cells = HashMap<StreamId, Arc<StreamCell>, BuildHasherDefault<IdHasher>>;

impl Dispatch {
    pub(super) fn new(share: Share, connection: Connection, hub: Arc<Hub>) -> Self {
        Self {
            share,
            connection,
            hub,
            cells: Cells::default(),
            ready: Vec::new(),
            accepted: Vec::new(),
            read_buffer: 0,
            awaited: None,
            holds_up_peer: false,
            can_open: true,
        }
    }

    /// Carries out the orders of the handles.
    pub(super) fn carry_out(&mut self, now: Instant) {
        let orders = self.hub.take_orders(&mut self.ready, &mut self.accepted);
        for id in self.accepted.drain(..) {
            self.connection.accept(id);
        }
        if let Some(Orders {
            opens,
            pings,
            shutdown,
        }) = orders
        {
            for answer in pings {
                self.ping(now, answer);
            }
            if let Some(order) = shutdown {
                // Orders that were given to streams before, such as resets, are carried out before
                // GOAWAY. Streams that wait are not opened any more.
                self.carry_out_ready(now, order.ready_before);
                self.connection.shutdown(now, order.how);
            }
            self.take_opens(now, opens);
        }
        // Streams are opened before other streams go on, because a push has to be sent before the
        // payload that refers to it.
        self.open_streams(now);
        self.carry_out_ready(now, self.ready.len());
        self.deliver();
    }

    /// Updates two facts for the handles: whether a silent peer could have sent something, and
    /// whether streams can be opened.
    pub(super) fn tell_hub(&mut self, now: Instant) {
        if self.can_open && !self.connection.can_open() {
            self.can_open = false;
            self.hub.note_going_away();
        }
        let holds_up_peer = self.connection.holds_up_peer();
        if holds_up_peer != self.holds_up_peer {
            self.holds_up_peer = holds_up_peer;
            self.hub.note_held_up(holds_up_peer, now);
        }
    }

    /// Notes in the connection which streams the application has read a part of.
    pub(super) fn note_partly_read(&mut self) {
        let read = self.cells.values().filter(|cell| cell.take_partly_read());
        for cell in read {
            self.connection.note_partly_read(cell.id);
        }
    }

    /// Updates the count of memory. `unhandled` bytes were read and not handled.
    pub(super) fn count_memory(&mut self, unhandled: usize) {
        let (connection, hub) = (&self.connection, &self.hub);
        self.share
            .count(|| connection.memory() + hub.budget.memory() + unhandled);
    }

    /// Carries out the orders of the first `cells` on the ready list.
    fn carry_out_ready(&mut self, now: Instant, cells: usize) {
        for cell in self.ready.drain(..cells) {
            if cell.carry_out(now, &mut self.connection) {
                forget(&mut self.cells, &self.connection, cell.id);
            }
        }
    }

    /// Queues streams that can wait for a place. A push does not wait, not even behind streams that
    /// do.
    fn take_opens(&mut self, now: Instant, opens: VecDeque<OpenOrder>) {
        for order in opens {
            if order.how.associated.is_some() {
                self.open_streams(now);
                self.open_stream(now, order);
            } else {
                self.awaited.get_or_insert_default().opens.push_back(order);
            }
        }
        if let Some(awaited) = &mut self.awaited
            && awaited.opens.len() > awaited.most_opens
        {
            // Some may have been given up behind one that waits. The search costs no more than the
            // orders since the last one.
            awaited.opens.retain(|order| !order.answer.is_closed());
            awaited.most_opens = (2 * awaited.opens.len()).max(FEW_OPENS);
        }
    }

    /// Opens waiting streams, as many as the peer accepts.
    fn open_streams(&mut self, now: Instant) {
        while self.can_open_next()
            && let Some(order) = self.awaited.as_mut().and_then(|it| it.opens.pop_front())
        {
            self.open_stream(now, order);
        }
    }

    /// Returns whether the next stream to be opened has nothing to wait for: a place is free, no
    /// place will ever be free, or the application has given it up.
    pub(super) fn can_open_next(&self) -> bool {
        let next = self.awaited.as_ref().and_then(|it| it.opens.front());
        next.is_some_and(|order| {
            self.connection.can_open_now()
                || !self.connection.can_open()
                || order.answer.is_closed()
        })
    }

    /// Frees memory that a session at rest does not need.
    pub(super) fn release_memory(&mut self) {
        self.connection.release_buffers();
        if let Some(awaited) = &mut self.awaited {
            awaited.opens.free_spare();
            awaited.pings.free_spare();
        }
        if self.cells.free_spare() {
            self.ready.free_spare();
            self.accepted.free_spare();
            self.hub.free_spare();
        }
    }

    /// Registers the task to be woken, with the changes that the connection waits for. Returns
    /// `false` if there are orders already.
    pub(super) fn park(&self, cx: &Context<'_>) -> bool {
        self.hub.park(cx, self.connection.heeds())
    }

    fn open_stream(&mut self, now: Instant, order: OpenOrder) {
        let OpenOrder {
            headers,
            how,
            note,
            answer,
        } = order;
        if answer.is_closed() {
            return;
        }
        let opened = self.connection.open(now, headers, how).map(|id| {
            (note.0)(id);
            let birth = Birth {
                replied: !how.unidirectional,
                received: how.unidirectional,
                finished: how.fin,
                mute: false,
                window: self.connection.send_window(id),
            };
            self.add_cell(id, birth)
        });
        if let Err(Ok(cell)) = answer.send(opened) {
            // The application has given the stream up meanwhile.
            cell.abandon(RstStatus::CANCEL);
        }
    }

    fn add_cell(&mut self, id: StreamId, birth: Birth) -> Arc<StreamCell> {
        let cell = Arc::new(StreamCell::new(id, Arc::clone(&self.hub), birth));
        self.cells.insert(id, Arc::clone(&cell));
        cell
    }

    /// Puts the events of the machine into the shared state.
    pub(super) fn deliver(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Opened(opened) => self.on_opened(opened),
                Event::Replied { id, headers, fin } => {
                    self.on_cell(id, |cell| cell.replied(headers, fin))
                }
                Event::Headers { id, headers, fin } => self.on_headers(id, headers, fin),
                Event::Data { id, payload, fin } => self.on_data(id, payload, fin),
                Event::Sent {
                    id,
                    bytes,
                    fin,
                    window,
                } => self.on_cell(id, |cell| cell.sent(bytes, fin, window)),
                Event::WindowOpen { id, window } => {
                    self.on_cell(id, |cell| cell.window_opened(window))
                }
                Event::Reset { id, error } => self.on_reset(id, error),
                Event::Pong { id, rtt } => self.on_pong(id, rtt),
                Event::Settings(settings) => self.hub.note_settings(&settings),
                // Its effects on streams have events of their own.
                Event::GoAway { .. } => self.hub.note_going_away(),
            }
        }
    }

    fn on_opened(&mut self, opened: Opened) {
        let birth = Birth {
            replied: false,
            received: opened.fin,
            finished: false,
            mute: opened.unidirectional,
            window: self.connection.send_window(opened.id),
        };
        let cell = self.add_cell(opened.id, birth);
        if let Err(Waiting { cell, .. }) = self.hub.offer(Waiting { opened, cell }) {
            cell.abandon(RstStatus::REFUSED_STREAM);
        }
    }

    fn on_data(&mut self, id: StreamId, payload: Bytes, fin: bool) {
        let (unwanted, over) = match self.cells.get(&id) {
            Some(cell) => cell.data(payload, fin, self.read_buffer),
            None => (payload.len(), false),
        };
        self.connection.consume(id, unwanted);
        if over {
            forget(&mut self.cells, &self.connection, id);
        }
    }

    fn on_headers(&mut self, id: StreamId, headers: HeaderBlock, fin: bool) {
        let (unwanted, over) = match self.cells.get(&id) {
            Some(cell) => cell.headers(headers, fin),
            None => (held_size(&headers), false),
        };
        if unwanted > 0 {
            self.connection.consume_headers(id, unwanted);
        }
        if over {
            forget(&mut self.cells, &self.connection, id);
        }
    }

    /// Calls `act` with the cell of a stream. `act` returns whether the stream is over.
    fn on_cell(&mut self, id: StreamId, act: impl FnOnce(&StreamCell) -> bool) {
        if self.cells.get(&id).is_some_and(|cell| act(cell)) {
            forget(&mut self.cells, &self.connection, id);
        }
    }

    fn on_reset(&mut self, id: StreamId, error: StreamError) {
        let Some(cell) = self.cells.get(&id) else {
            return self.connection.release(id);
        };
        let dropped = match error {
            StreamError::TimedOut(Timeout::Unread) => cell.give_up(),
            _ => 0,
        };
        if cell.fail(error) {
            self.connection.release(id);
        }
        self.connection.consume(id, dropped);
        forget(&mut self.cells, &self.connection, id);
    }

    fn ping(&mut self, now: Instant, answer: oneshot::Sender<Duration>) {
        let id = self.connection.ping(now);
        let awaited = self.awaited.get_or_insert_default();
        awaited.pings.push_back((id, answer));
        self.forget_pings();
    }

    /// Drops the PINGs that the connection has given up, which informs the tasks that wait. These
    /// are the oldest.
    pub(super) fn forget_pings(&mut self) {
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        while let Some((oldest, _)) = awaited.pings.front()
            && self.connection.has_given_up(*oldest)
        {
            awaited.pings.pop_front();
        }
    }

    /// Handles the answer to a PING of a handle. The connection's own PINGs have no handle.
    fn on_pong(&mut self, id: PingId, rtt: Duration) {
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        let pings = &mut awaited.pings;
        let position = pings.iter().position(|(waiting, _)| *waiting == id);
        if let Some((_, answer)) = position.and_then(|position| pings.remove(position)) {
            _ = answer.send(rtt);
        }
    }

    /// Ends all streams and the session, and wakes every task that waits.
    pub(super) fn end(&mut self, outcome: Outcome) {
        let error = outcome.clone().err().unwrap_or(SessionError::Closed);
        for (_, cell) in self.cells.drain() {
            cell.fail(StreamError::Session(error.clone()));
        }
        let awaited = self.awaited.take().unwrap_or_default();
        for order in awaited.opens {
            _ = order.answer.send(Err(OpenError::Session(error.clone())));
        }
        self.hub.end(outcome);
        drop(awaited.pings);
    }
}

/// Forgets a stream that is over, unless its payload holds up other streams. Then the payload may
/// have to be given up later.
fn forget(cells: &mut Cells, connection: &Connection, id: StreamId) {
    if !connection.is_untaken(id) {
        cells.remove(&id);
    }
}

/// The smallest number of waiting streams at which the driver searches for given-up ones.
const FEW_OPENS: usize = 16;

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Waker};

    use spdy_frame::Version;

    use crate::{Config, Driver, OpenOptions, client};

    use super::*;

    /// Returns how many streams that wait there is room for, after a poll.
    fn room<IO>(driver: &mut Driver<IO>) -> usize
    where
        Driver<IO>: Future + Unpin,
    {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut *driver).poll(cx).is_pending());
        let awaited = driver.dispatch.awaited.as_ref();
        awaited.map_or(0, |awaited| awaited.opens.capacity())
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_at_rest_has_no_room_for_the_streams_that_have_waited() {
        let (near, _far) = tokio::io::duplex(64 * 1024);
        let (session, _, mut driver) = client(near, Version::V3_1, Config::default());
        let open = |_| session.open(HeaderBlock::new(), OpenOptions::new());
        let waiting: Vec<_> = (0..1000).map(open).collect();
        // A server that has sent nothing gets 100 streams.
        assert!(room(&mut driver) >= 900);
        drop(waiting);
        assert!(room(&mut driver) <= 16);
    }
}
