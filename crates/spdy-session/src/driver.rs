//! The future that moves octets between a transport and the protocol machine.
//!
//! One turn, of which [`Driver::poll_around`] does as many as there is something to do:
//!
//! ```text
//!   orders of the handles ─► machine
//!   transport ─► machine ─► events ─► handles          until the transport has nothing more, or a turn's share
//!   work of the caller, which acts on its handles
//!   orders of the handles ─► machine ─► transport      one vectored write for all that is ready
//! ```
//!
//! The machine belongs to the driver alone. Handles are met in the [`StreamCell`] of their stream and in the [`Hub`].

mod io;
mod rest;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::BuildHasherDefault,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, Side, StreamId, Version};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::oneshot,
    time::{Sleep, sleep_until},
};

use self::io::{Read, Transport};
use crate::{
    OpenError, SessionError, StreamError, Timeout,
    config::Config,
    hub::{Hub, OpenOrder, Orders},
    incoming::{Incoming, PendingStream},
    memory::Share,
    proto::{Connection, Event, IdHasher, Opened, Outcome, Phase, PingId, held_size},
    session::Session,
    stream::{
        Stream,
        cell::{Birth, StreamCell},
    },
};

/// A session of which this side opened the transport.
///
/// Spawn the driver, or poll it: nothing happens otherwise. The version is the negotiated one. Sessions may share a
/// configuration.
pub fn client<IO>(
    io: IO,
    version: Version,
    config: impl Into<Arc<Config>>,
) -> (Session, Incoming, Driver<IO>) {
    session(io, Side::Client, version, config.into())
}

/// A session of which this side accepted the transport.
///
/// Spawn the driver, or poll it: nothing happens otherwise. The version is the negotiated one. Sessions may share a
/// configuration.
pub fn server<IO>(
    io: IO,
    version: Version,
    config: impl Into<Arc<Config>>,
) -> (Session, Incoming, Driver<IO>) {
    session(io, Side::Server, version, config.into())
}

fn session<IO>(
    io: IO,
    side: Side,
    version: Version,
    config: Arc<Config>,
) -> (Session, Incoming, Driver<IO>) {
    let hub = Arc::new(Hub::new(side, version, Arc::clone(&config)));
    let driver = Driver {
        transport: Transport::new(io),
        dispatch: Dispatch {
            share: Share::new(config.memory.clone()),
            connection: Connection::new(side, version, config, now()),
            hub: Arc::clone(&hub),
            cells: Cells::default(),
            ready: Vec::new(),
            taken: Vec::new(),
            read_buffer: 0,
            opens: VecDeque::new(),
            pings: VecDeque::new(),
            most_opens: FEW_OPENS,
            holds_up_peer: false,
            can_open: true,
        },
        alarm: None,
        timers: None,
        stage: Stage::Running,
    };
    (Session::first(Arc::clone(&hub)), Incoming::new(hub), driver)
}

/// Drives one session: a future that ends when the session has, with `Ok` if that was in order.
///
/// It has to be polled within a tokio runtime whose time is enabled. Dropped, it drops the transport; streams that
/// are open fail then, and [`Session::closed`] gives [`SessionError::Closed`].
#[must_use = "a session does nothing unless its driver is polled"]
pub struct Driver<IO> {
    transport: Transport<IO>,
    dispatch: Dispatch,
    /// The next deadline, or an earlier moment.
    alarm: Option<Pin<Box<Sleep>>>,
    /// The runtime that the alarm belongs to, if it is not to be the one that polls.
    timers: Option<Handle>,
    stage: Stage,
}

/// How far the end has come.
#[derive(Debug)]
enum Stage {
    Running,
    /// All is written. The transport is read on until then, so that the peer sees our GOAWAY before a TCP reset.
    Lingering(Instant),
    Ended(Outcome),
}

/// Why the driver does not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "reading may have to go on in this poll"]
enum Reading {
    /// The transport has nothing, and wakes the task when it has. Or nothing more will come.
    Transport,
    /// The connection wants no input now. No waker is registered with the transport.
    Paused,
    /// The share of this turn is read.
    Share,
}

impl Reading {
    /// Whether there may be more to read at once.
    fn may_go_on(self, connection: &Connection) -> bool {
        match self {
            Self::Transport => false,
            Self::Paused => connection.wants_input(),
            Self::Share => true,
        }
    }
}

/// The protocol machine with those who wait for something from it.
struct Dispatch {
    /// What is counted of the session's memory.
    share: Share,
    connection: Connection,
    hub: Arc<Hub>,
    cells: Cells,
    /// The cells that had orders; empty between two turns, kept for its memory.
    ready: Vec<Arc<StreamCell>>,
    /// The streams that were accepted, likewise.
    taken: Vec<StreamId>,
    /// The size of the buffer that payload is a slice of.
    read_buffer: usize,
    /// Streams that wait for a free place.
    opens: VecDeque<OpenOrder>,
    pings: VecDeque<(PingId, oneshot::Sender<Duration>)>,
    /// How many streams may wait before those that were given up are looked for.
    most_opens: usize,
    /// What the hub knows of [`Connection::holds_up_peer`].
    holds_up_peer: bool,
    /// What the hub knows of [`Connection::can_open`].
    can_open: bool,
}

/// The cells of streams whose handles still want to know something.
type Cells = HashMap<StreamId, Arc<StreamCell>, BuildHasherDefault<IdHasher>>;

impl<IO> Driver<IO> {
    /// Has the deadlines of the session watched by another runtime than the one that polls the driver. Say so before
    /// the first poll.
    ///
    /// A runtime that watches deadlines goes to sleep with a timer of the system, which costs as much as a tenth of
    /// what the system does for a small request. Where requests come one by one, a second runtime on a thread of its
    /// own saves that: it is woken when a deadline has really come, which hardly ever happens.
    ///
    /// # Panics
    ///
    /// The time of that runtime has to be enabled, and it has to outlive the driver: else polling panics.
    pub fn timers(mut self, runtime: Handle) -> Self {
        self.timers = Some(runtime);
        self
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Polls the driver with `work` in the middle of each turn, on the same task, between reading and writing. What
    /// `work` hands to streams is written in the same turn, and waking this task for it costs nothing.
    ///
    /// `work` says whether it may have more to do at once. It is called again in each turn.
    ///
    /// # Errors
    ///
    /// Why the session has ended, unless in order.
    pub fn poll_around(
        &mut self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<Result<(), SessionError>> {
        if let Stage::Ended(outcome) = &self.stage {
            return Poll::Ready(outcome.clone());
        }
        self.dispatch.hub.unpark();
        let start = now();
        let mut now = start;
        for _ in 0..TURNS_PER_POLL {
            self.dispatch.carry_out(now);
            let reading = self.read(cx, now);
            let mut more = work(cx);
            self.dispatch.carry_out(now);
            self.write(cx, now);
            if let Poll::Ready(outcome) = self.poll_end(cx, now) {
                self.dispatch.end(outcome.clone());
                self.stage = Stage::Ended(outcome.clone());
                return Poll::Ready(outcome);
            }
            more |= self.poll_alarm(cx);
            // Whatever made it possible in this turn, a read, a write, an order or a deadline: this is the one look.
            more |= reading.may_go_on(&self.dispatch.connection) || self.dispatch.can_open_next();
            self.dispatch.tell_hub(now);
            if !more && self.dispatch.park(cx) {
                self.transport.rest();
                self.dispatch.connection.release_buffers();
                self.dispatch.count_memory(self.transport.held());
                return Poll::Pending;
            }
            now = self::now();
            if now.saturating_duration_since(start) >= MAX_POLL {
                break;
            }
        }
        self.dispatch.count_memory(self.transport.held());
        // Others get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what there is and handles it. Returns why it stopped.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Reading {
        let dispatch = &mut self.dispatch;
        for _ in 0..READS_PER_TURN {
            dispatch.read_buffer = self.transport.buffer_size();
            while dispatch
                .connection
                .handle_input(now, self.transport.buffer())
            {
                dispatch.deliver();
            }
            if !dispatch.connection.wants_input() {
                return Reading::Paused;
            }
            if self::now().saturating_duration_since(now) >= MAX_POLL {
                return Reading::Share;
            }
            match self.transport.poll_read(cx) {
                Read::Some => continue,
                Read::Nothing => {}
                Read::End => dispatch.connection.handle_eof(now),
                Read::Failed(error) => dispatch.connection.handle_transport_error(error.into()),
            }
            dispatch.deliver();
            return Reading::Transport;
        }
        Reading::Share
    }

    /// Writes what may go out.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) {
        let connection = &mut self.dispatch.connection;
        if let Poll::Ready(Err(error)) = self.transport.poll_write(cx, connection, now) {
            connection.handle_transport_error(error.into());
        }
        self.dispatch.deliver();
    }

    /// Ready when the session has ended and nothing is left to be done with the transport.
    fn poll_end(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Outcome> {
        let connection = &mut self.dispatch.connection;
        if connection.phase() != Phase::Closing || connection.has_output() {
            return Poll::Pending;
        }
        let until = match self.stage {
            Stage::Lingering(until) => until,
            // Nothing could be written, so there is nothing to wait for.
            _ if is_broken(connection.outcome()) => now,
            _ => now + connection.config().timeouts.linger.min(LONGEST_LINGER),
        };
        self.stage = Stage::Lingering(until);
        if now < until {
            ready!(self.transport.poll_shutdown(cx));
            ready!(self.transport.poll_drain(cx));
        }
        Poll::Ready(connection.outcome().clone())
    }

    /// Acts when a deadline has passed, and sees to it that the task is woken at the next one. Says whether there is
    /// something to do now.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> bool {
        let next = match self.stage {
            Stage::Lingering(until) => Some(until),
            _ => self.dispatch.connection.poll_timeout(),
        };
        let Some(next) = next.map(tokio::time::Instant::from_std) else {
            return false;
        };
        let alarm = self.alarm.get_or_insert_with(|| {
            let _context = self.timers.as_ref().map(Handle::enter);
            Box::pin(sleep_until(next))
        });
        // A deadline that moved further away is looked at when the old one has come: most never do.
        if next < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(next);
        }
        if alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        if self.dispatch.hub.take_partly_read() {
            self.dispatch.connection.note_partly_read();
        }
        self.dispatch.connection.handle_timeout(now());
        self.dispatch.forget_pings();
        self.dispatch.deliver();
        true
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Driver<IO> {
    type Output = Result<(), SessionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_around(cx, |_| false)
    }
}

impl<IO> fmt::Debug for Driver<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("side", &self.dispatch.hub.side)
            .field("version", &self.dispatch.hub.version)
            .field("streams", &self.dispatch.cells.len())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Ended(_)) {
            self.dispatch.end(Err(SessionError::Closed));
        }
    }
}

impl Dispatch {
    /// Carries out what the handles have ordered.
    fn carry_out(&mut self, now: Instant) {
        let orders = self.hub.take_orders(&mut self.ready, &mut self.taken);
        for id in self.taken.drain(..) {
            self.connection.accept(id);
        }
        if let Some(Orders {
            opens,
            pings,
            shutdown,
            ready_before,
            ..
        }) = orders
        {
            for answer in pings {
                self.ping(now, answer);
            }
            if let Some(how) = shutdown {
                // What streams were told before, their resets among it, is said before GOAWAY. Those that wait to be
                // opened are not opened any more.
                self.carry_out_ready(now, ready_before);
                self.connection.shutdown(now, how);
            }
            self.take_opens(now, opens);
        }
        // Streams are opened before others go on: a push has to come before the payload that refers to it.
        self.open_streams(now);
        self.carry_out_ready(now, self.ready.len());
        self.deliver();
    }

    /// Tells handles whether a silent peer could have sent something, and whether streams can be opened.
    fn tell_hub(&mut self, now: Instant) {
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

    /// Counts what the session holds, with what was read and not handled.
    fn count_memory(&mut self, unhandled: usize) {
        let (connection, hub) = (&self.connection, &self.hub);
        self.share
            .count(|| connection.memory() + hub.room.memory() + unhandled);
    }

    /// Carries out the orders of so many cells.
    fn carry_out_ready(&mut self, now: Instant, cells: usize) {
        for cell in self.ready.drain(..cells) {
            if cell.carry_out(now, &mut self.connection) {
                forget(&mut self.cells, &self.connection, cell.id);
            }
        }
    }

    /// Queues streams that may wait for a place. A push does not wait, also not behind others that do.
    fn take_opens(&mut self, now: Instant, opens: VecDeque<OpenOrder>) {
        for order in opens {
            if order.how.associated.is_some() {
                self.open_streams(now);
                self.open_stream(now, order);
            } else {
                self.opens.push_back(order);
            }
        }
        if self.opens.len() > self.most_opens {
            // Some were given up behind one that waits. A look costs as little as the orders since the last one did.
            self.opens.retain(|order| !order.answer.is_closed());
            self.most_opens = (2 * self.opens.len()).max(FEW_OPENS);
        }
    }

    /// Opens the streams that wait, as many as the peer accepts.
    fn open_streams(&mut self, now: Instant) {
        while self.can_open_next()
            && let Some(order) = self.opens.pop_front()
        {
            self.open_stream(now, order);
        }
    }

    /// Whether the stream that is the next to be opened waits for nothing any more: a place is free, no place ever
    /// will be, or the application has given it up.
    fn can_open_next(&self) -> bool {
        self.opens.front().is_some_and(|order| {
            self.connection.can_open_now()
                || !self.connection.can_open()
                || order.answer.is_closed()
        })
    }

    /// Registers the task to be woken, with what the connection waits for. False: there are orders already.
    fn park(&self, cx: &Context<'_>) -> bool {
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
            Stream::opened(self.add_cell(id, birth))
        });
        // Who asked may be gone: the stream is dropped then, which resets it.
        _ = answer.send(opened);
    }

    fn add_cell(&mut self, id: StreamId, birth: Birth) -> Arc<StreamCell> {
        let cell = Arc::new(StreamCell::new(id, Arc::clone(&self.hub), birth));
        self.cells.insert(id, Arc::clone(&cell));
        cell
    }

    /// Tells the handles what has happened.
    fn deliver(&mut self) {
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
                // What it means for streams comes as events of theirs.
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
        self.hub.incoming(PendingStream::new(&cell, opened));
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

    /// Tells a cell, which says whether it is of no more use.
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
        self.pings.push_back((id, answer));
        self.forget_pings();
    }

    /// Tells the tasks whose PINGs the connection has given up. These are the oldest.
    fn forget_pings(&mut self) {
        while let Some((oldest, _)) = self.pings.front()
            && self.connection.has_given_up(*oldest)
        {
            self.pings.pop_front();
        }
    }

    /// The answer to a PING of a handle, or of the connection itself, which no handle waits for.
    fn on_pong(&mut self, id: PingId, rtt: Duration) {
        let position = self.pings.iter().position(|(waiting, _)| *waiting == id);
        if let Some((_, answer)) = position.and_then(|position| self.pings.remove(position)) {
            _ = answer.send(rtt);
        }
    }

    /// Tells everybody that the session has ended.
    fn end(&mut self, outcome: Outcome) {
        let error = outcome.clone().err().unwrap_or(SessionError::Closed);
        for (_, cell) in self.cells.drain() {
            cell.fail(StreamError::Session(error.clone()));
        }
        for order in self.opens.drain(..) {
            _ = order.answer.send(Err(OpenError::Session(error.clone())));
        }
        self.hub.end(outcome);
        self.pings.clear();
    }
}

/// Forgets a stream that is over, unless payload of it is in the way of others: it may have to be given up.
fn forget(cells: &mut Cells, connection: &Connection, id: StreamId) {
    if !connection.is_untaken(id) {
        cells.remove(&id);
    }
}

/// Whether the transport takes nothing any more.
fn is_broken(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(SessionError::Io(_) | SessionError::TimedOut(Timeout::Write))
    )
}

/// The time, which tests may set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// No turn begins, and nothing more is read in one, when so much time has gone by: then other tasks get theirs.
const MAX_POLL: Duration = Duration::from_micros(500);

/// So many streams may wait to be opened, whether they were given up or not.
const FEW_OPENS: usize = 16;

/// Turns before other tasks get theirs, however short.
const TURNS_PER_POLL: usize = 8;

/// Reads of one turn: a peer that sends faster than we handle does not keep this side from writing.
const READS_PER_TURN: usize = 4;

/// Longer than a transport stays; a clock may not count as far as `Timeouts::linger` can say.
const LONGEST_LINGER: Duration = Duration::from_secs(24 * 60 * 60);
