//! What the handles of one stream share with the driver.
//!
//! A handle never touches the protocol machine. It leaves *orders* in the cell of its stream and puts the cell on
//! the ready list of the [`Hub`]; the driver carries the orders out, and puts what happened into the cell. The lock
//! of a cell is held for a few instructions, never across a wake and never across an await.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use crate::{
    StreamError,
    config::MAX_PINNED,
    hub::{Hub, Urgency},
    proto::Connection,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The meeting place of a stream's handles and the driver.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: StreamId,
    hub: Arc<Hub>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recv: Recv,
    send: Send,
    orders: Orders,
    /// Whether the cell stands on the ready list.
    listed: bool,
    /// How the stream ended, unless in order.
    end: Option<StreamError>,
}

/// What has come and is not taken yet.
#[derive(Debug)]
struct Recv {
    reply: Reply,
    pieces: VecDeque<Received>,
    /// Small pieces are joined here, behind all others.
    joined: BytesMut,
    fin: bool,
    /// The handle is gone: nobody wants what comes.
    dropped: bool,
    waker: Option<Waker>,
}

/// The SYN_REPLY of the peer.
#[derive(Debug)]
enum Reply {
    /// The peer opened the stream, or may not answer: there will be none.
    None,
    Due,
    Here(HeaderBlock),
    Taken,
}

/// What is to be sent.
#[derive(Debug)]
struct Send {
    reply: Option<HeaderBlock>,
    items: VecDeque<Item>,
    /// Small writes are joined here, behind all items.
    joined: BytesMut,
    fin: Fin,
    /// This side cannot send on the stream, by nature.
    mute: bool,
    /// Payload octets which have not left for the transport, here and in the machine.
    queued: usize,
    dropped: bool,
    awaited: Awaited,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    Headers(HeaderBlock),
}

/// How far our FIN is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fin {
    /// The application may send more.
    Open,
    /// The application has finished.
    Ordered,
    /// The machine knows.
    HandedOver,
    /// It is written to the transport.
    Written,
}

/// What the sending handle's task waits for. It may be several things at once; the end of the stream wakes it in any
/// case.
#[derive(Clone, Copy, Debug, Default)]
struct Awaited {
    /// Room in the queue.
    room: bool,
    /// That nothing is queued.
    flushed: bool,
    /// That FIN is written.
    written: bool,
}

/// What else the handles want of the machine.
#[derive(Debug, Default)]
struct Orders {
    accepted: bool,
    consumed: usize,
    stop_reading: bool,
    reset: Option<RstStatus>,
}

/// What a stream brings, in order.
#[derive(Debug)]
pub enum Received {
    /// Payload; never empty.
    Data(Bytes),
    /// A header block that came after the first one: trailers, if nothing follows.
    Headers(HeaderBlock),
}

/// How a cell begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    /// A SYN_REPLY will come.
    pub(crate) replied: bool,
    /// The peer has finished.
    pub(crate) received: bool,
    /// This side has finished, with the opening frame.
    pub(crate) finished: bool,
    /// This side has nothing to send and never had.
    pub(crate) mute: bool,
}

impl Cell {
    pub(crate) fn new(id: StreamId, hub: Arc<Hub>, birth: Birth) -> Self {
        let state = State {
            recv: Recv {
                reply: if birth.replied {
                    Reply::Due
                } else {
                    Reply::None
                },
                pieces: VecDeque::new(),
                joined: BytesMut::new(),
                fin: birth.received,
                dropped: false,
                waker: None,
            },
            send: Send {
                reply: None,
                items: VecDeque::new(),
                joined: BytesMut::new(),
                fin: match birth {
                    Birth { mute: true, .. } => Fin::Written,
                    Birth { finished: true, .. } => Fin::HandedOver,
                    Birth { .. } => Fin::Open,
                },
                mute: birth.mute,
                queued: 0,
                dropped: false,
                awaited: Awaited::default(),
                waker: None,
            },
            orders: Orders::default(),
            listed: false,
            end: None,
        };
        Self {
            id,
            hub,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned state is a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the driver that there are new orders.
    fn enlist(self: &Arc<Self>, mut state: MutexGuard<'_, State>, urgency: Urgency) {
        let is_new = !mem::replace(&mut state.listed, true);
        drop(state);
        self.hub.enlist(is_new.then_some(self), urgency);
    }
}

/// For the receiving handle.
impl Cell {
    pub(crate) fn poll_reply(&self, cx: &Context<'_>) -> Poll<Result<HeaderBlock, StreamError>> {
        let mut state = self.lock();
        match mem::replace(&mut state.recv.reply, Reply::Taken) {
            Reply::Here(block) => Poll::Ready(Ok(block)),
            Reply::Due => {
                state.recv.reply = Reply::Due;
                match &state.end {
                    Some(end) => Poll::Ready(Err(end.clone())),
                    None => {
                        park(&mut state.recv.waker, cx);
                        Poll::Pending
                    }
                }
            }
            Reply::None | Reply::Taken => Poll::Ready(Err(StreamError::Finished)),
        }
    }

    /// The next thing that came; `None` after FIN. What came before an abnormal end is given first.
    pub(crate) fn poll_next(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Received, StreamError>>> {
        let mut state = self.lock();
        match state.recv.take() {
            Some(received) => Poll::Ready(Some(Ok(received))),
            None => state.poll_drained(cx),
        }
    }

    /// The next header block, also from behind payload that is not taken yet.
    pub(crate) fn poll_headers(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<HeaderBlock, StreamError>>> {
        let mut state = self.lock();
        let is_headers = |piece: &Received| matches!(piece, Received::Headers(_));
        let position = state.recv.pieces.iter().position(is_headers);
        match position.and_then(|position| state.recv.pieces.remove(position)) {
            Some(Received::Headers(block)) => Poll::Ready(Some(Ok(block))),
            _ => state.poll_drained(cx),
        }
    }

    /// Whether the peer has finished and all that came was taken.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.recv.fin && state.recv.pieces.is_empty() && state.recv.joined.is_empty()
    }

    /// The application is done with octets that it took: their credit goes back.
    pub(crate) fn consumed(self: &Arc<Self>, octets: usize) {
        if octets > 0 {
            let mut state = self.lock();
            state.orders.consumed += octets;
            self.enlist(state, self.hub.note_consumed(octets));
        }
    }

    /// The receiving handle is dropped with `octets` taken and not reported.
    pub(crate) fn drop_recv(self: &Arc<Self>, octets: usize) {
        let mut state = self.lock();
        let unread = octets + state.recv.discard();
        state.recv.dropped = true;
        let stop = !state.recv.fin && state.end.is_none();
        state.orders.consumed += unread;
        state.orders.stop_reading |= stop;
        if stop && state.send.mute {
            // Nobody waits for an answer, so a reset does no harm.
            state.orders.reset.get_or_insert(RstStatus::CANCEL);
        }
        let waker = state.take_closed_waker();
        if stop || unread > 0 {
            self.enlist(state, Urgency::Now);
        } else if state.is_released() {
            self.enlist(state, Urgency::Later);
        } else {
            drop(state);
        }
        wake(waker);
    }
}

impl State {
    /// What to say when everything that came was taken.
    fn poll_drained<T>(&mut self, cx: &Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        if self.recv.fin {
            return Poll::Ready(None);
        }
        match &self.end {
            Some(end) => Poll::Ready(Some(Err(end.clone()))),
            None => {
                park(&mut self.recv.waker, cx);
                Poll::Pending
            }
        }
    }
}

impl Recv {
    fn take(&mut self) -> Option<Received> {
        match self.pieces.pop_front() {
            None if self.joined.is_empty() => None,
            None => Some(Received::Data(mem::take(&mut self.joined).freeze())),
            received => received,
        }
    }

    /// Keeps a piece of payload, a slice of a read buffer of `buffer` octets, which lives as long as the slice does.
    /// A piece that is a large part of it is kept as it is. Others are copied, and joined while nobody takes them:
    /// otherwise a few octets each could pin one buffer each, and their bookkeeping would exceed them.
    fn keep(&mut self, payload: Bytes, buffer: usize) {
        if payload.len() * MAX_PINNED >= buffer {
            self.flush_joined();
            self.pieces.push_back(Received::Data(payload));
            return;
        }
        self.joined.extend_from_slice(&payload);
        if self.joined.len() >= JOINED_LENGTH {
            self.flush_joined();
        }
    }

    fn keep_headers(&mut self, block: HeaderBlock) {
        self.flush_joined();
        self.pieces.push_back(Received::Headers(block));
    }

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = mem::take(&mut self.joined).freeze();
            self.pieces.push_back(Received::Data(joined));
        }
    }

    /// Drops everything, and says how many octets of payload that was.
    fn discard(&mut self) -> usize {
        let joined = mem::take(&mut self.joined).len();
        let octets = mem::take(&mut self.pieces)
            .into_iter()
            .map(|piece| match piece {
                Received::Data(payload) => payload.len(),
                Received::Headers(_) => 0,
            });
        joined + octets.sum::<usize>()
    }
}

/// For the sending handle.
impl Cell {
    /// Answers the peer's stream.
    pub(crate) fn reply(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| send.reply = Some(headers))
    }

    pub(crate) fn send_data(
        self: &Arc<Self>,
        payload: Bytes,
        fin: bool,
    ) -> Result<(), StreamError> {
        let octets = payload.len();
        if octets == 0 && !fin {
            return self.check_send();
        }
        self.send(fin, |send| {
            if octets == 0 {
                return;
            }
            if octets < SMALL_LENGTH {
                send.join(&payload);
            } else {
                send.flush_joined();
                send.items.push_back(Item::Data(payload));
            }
            send.queued += octets;
            self.hub.note_queued(octets);
        })
    }

    pub(crate) fn send_headers(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| {
            send.flush_joined();
            send.items.push_back(Item::Headers(headers));
        })
    }

    /// Copies as much of `octets` as there is room for.
    pub(crate) fn poll_write(
        self: &Arc<Self>,
        cx: &Context<'_>,
        octets: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        if octets.is_empty() {
            return Poll::Ready(self.check_send().map(|()| 0));
        }
        let mut state = self.lock();
        state.check_send()?;
        let room = self.hub.room(state.send.queued);
        if room == 0 {
            state.send.awaited.room = true;
            park(&mut state.send.waker, cx);
            return Poll::Pending;
        }
        let written = room.min(octets.len());
        state.send.join(&octets[..written]);
        state.send.queued += written;
        self.hub.note_queued(written);
        self.enlist(state, Urgency::Now);
        Poll::Ready(Ok(written))
    }

    /// Waits for room in the queue.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.check_send()?;
        if self.hub.room(state.send.queued) > 0 {
            return Poll::Ready(Ok(()));
        }
        state.send.awaited.room = true;
        park(&mut state.send.waker, cx);
        Poll::Pending
    }

    /// Waits until everything queued has left for the transport.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        let is_done = state.send.queued == 0;
        state.send.awaited.flushed = true;
        state.poll_until(is_done, cx)
    }

    /// Waits until FIN has been written to the transport.
    pub(crate) fn poll_written(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.send.awaited.written = true;
        state.poll_until(false, cx)
    }

    /// Waits for the end: [`StreamError::Finished`] if it is in order.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<StreamError> {
        let mut state = self.lock();
        match &state.end {
            Some(end) => Poll::Ready(end.clone()),
            None if state.is_over() => Poll::Ready(StreamError::Finished),
            None => {
                park(&mut state.send.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Whether this side has finished the stream.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().send.fin > Fin::Open
    }

    /// Ends the stream both ways.
    pub(crate) fn reset(self: &Arc<Self>, status: RstStatus) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, Urgency::Now);
        }
    }

    /// The sending handle is dropped. With a status, a stream that it has not finished is reset, and so is one that the
    /// peer has not finished and that this side cannot send on.
    pub(crate) fn drop_send(self: &Arc<Self>, status: Option<RstStatus>) {
        let mut state = self.lock();
        state.send.dropped = true;
        let is_open = state.send.fin == Fin::Open || (state.send.mute && !state.recv.fin);
        if let Some(status) = status
            && is_open
            && state.end.is_none()
        {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, Urgency::Now);
        } else if state.is_released() {
            self.enlist(state, Urgency::Later);
        }
    }

    /// Takes the stream out of the backlog.
    pub(crate) fn accept(self: &Arc<Self>) {
        let mut state = self.lock();
        state.orders.accepted = true;
        self.enlist(state, Urgency::Later);
    }

    fn check_send(&self) -> Result<(), StreamError> {
        self.lock().check_send()
    }

    fn send(self: &Arc<Self>, fin: bool, queue: impl FnOnce(&mut Send)) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.check_send()?;
        queue(&mut state.send);
        if fin {
            state.send.fin = Fin::Ordered;
        }
        self.enlist(state, Urgency::Now);
        Ok(())
    }
}

impl State {
    /// Whether anything may still be sent.
    fn check_send(&self) -> Result<(), StreamError> {
        match &self.end {
            Some(end) => Err(end.clone()),
            None if self.send.fin > Fin::Open => Err(StreamError::Finished),
            None => Ok(()),
        }
    }
}

impl State {
    fn poll_until(&mut self, is_done: bool, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.end {
            // What was written before the end was written.
            _ if self.send.fin == Fin::Written => Poll::Ready(Ok(())),
            Some(end) => Poll::Ready(Err(end.clone())),
            None if is_done => Poll::Ready(Ok(())),
            None => {
                park(&mut self.send.waker, cx);
                Poll::Pending
            }
        }
    }
}

impl Send {
    /// Copies octets behind what is queued, in pieces that are not so large that a rest of one pins much.
    fn join(&mut self, octets: &[u8]) {
        for piece in octets.chunks(JOINED_LENGTH) {
            if self.joined.len() + piece.len() > JOINED_LENGTH {
                self.flush_joined();
            }
            self.joined.extend_from_slice(piece);
        }
    }

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = mem::take(&mut self.joined).freeze();
            self.items.push_back(Item::Data(joined));
        }
    }
}

/// For the driver.
impl Cell {
    /// Carries the orders out. Says whether the cell is of no more use.
    pub(crate) fn carry_out(&self, connection: &mut Connection) -> bool {
        let mut state = self.lock();
        state.listed = false;
        let id = self.id;
        let orders = mem::take(&mut state.orders);
        connection.consume(id, orders.consumed);
        if orders.accepted {
            connection.accept(id);
        }
        match orders.reset {
            Some(status) => connection.reset(id, status),
            None => {
                state.send.hand_over(id, connection);
                if orders.stop_reading {
                    connection.stop_reading(id);
                }
            }
        }
        if state.is_released() {
            connection.release(id);
        }
        state.is_over()
    }

    pub(crate) fn replied(&self, headers: HeaderBlock, fin: bool) {
        self.received(fin, |recv| recv.reply = Reply::Here(headers));
    }

    pub(crate) fn headers(&self, headers: HeaderBlock, fin: bool) {
        self.received(fin, |recv| {
            if !recv.dropped {
                recv.keep_headers(headers);
            }
        });
    }

    /// Takes payload in, a slice of a read buffer of `buffer` octets. Says how many octets of it nobody wants.
    pub(crate) fn data(&self, payload: Bytes, fin: bool, buffer: usize) -> usize {
        let mut unwanted = 0;
        self.received(fin, |recv| match payload.len() {
            octets if recv.dropped => unwanted = octets,
            0 => {}
            _ => recv.keep(payload, buffer),
        });
        unwanted
    }

    fn received(&self, fin: bool, keep: impl FnOnce(&mut Recv)) {
        let mut state = self.lock();
        keep(&mut state.recv);
        state.recv.fin |= fin;
        let wakers = (state.recv.waker.take(), state.take_closed_waker());
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
    }

    /// Octets left the queue.
    pub(crate) fn sent(&self, octets: usize, fin: bool) {
        let mut state = self.lock();
        let send = &mut state.send;
        send.queued -= octets;
        self.hub.note_sent(octets);
        if fin {
            send.fin = Fin::Written;
        }
        let Awaited {
            room,
            flushed,
            written,
        } = send.awaited;
        let is_due = (room && self.hub.room(send.queued) > 0)
            || (flushed && send.queued == 0)
            || (written && send.fin == Fin::Written);
        let waker = if is_due {
            send.awaited = Awaited::default();
            send.waker.take()
        } else {
            state.take_closed_waker()
        };
        drop(state);
        wake(waker);
    }

    /// The stream has ended abnormally. What has come can still be read. Says whether the handles are gone.
    pub(crate) fn fail(&self, error: StreamError) -> bool {
        let mut state = self.lock();
        state.end.get_or_insert(error);
        state.send.items.clear();
        state.send.joined = BytesMut::new();
        state.send.reply = None;
        self.hub.note_sent(mem::take(&mut state.send.queued));
        let wakers = (state.recv.waker.take(), state.send.waker.take());
        let released = state.is_released();
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
        released
    }

    /// Whether nothing more will happen to the stream that a handle wants to know.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }
}

impl State {
    /// The task that waits for the end of the stream, if this is it.
    fn take_closed_waker(&mut self) -> Option<Waker> {
        if self.is_over() {
            self.send.waker.take()
        } else {
            None
        }
    }

    fn is_released(&self) -> bool {
        self.recv.dropped && self.send.dropped
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
            || ((self.recv.fin || self.recv.dropped) && self.send.fin == Fin::Written)
    }
}

impl Send {
    /// Moves what is queued into the machine. It refuses what comes for a stream that has ended meanwhile; the
    /// handle gets to know that by the event of the end.
    fn hand_over(&mut self, id: StreamId, connection: &mut Connection) {
        self.flush_joined();
        let fin = self.fin == Fin::Ordered;
        if let Some(headers) = self.reply.take() {
            _ = connection.reply(id, headers, fin && self.items.is_empty());
        } else if fin && self.items.is_empty() {
            _ = connection.finish(id);
        }
        while let Some(item) = self.items.pop_front() {
            let last = fin && self.items.is_empty();
            _ = match item {
                Item::Data(payload) => connection.send_data(id, payload, last),
                Item::Headers(headers) => connection.send_headers(id, headers, last),
            };
        }
        if fin {
            self.fin = Fin::HandedOver;
        }
    }
}

/// Registers the task to be woken.
fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Pieces to be sent that are shorter than this, in octets, are copied together: one frame less costs more than the
/// copy, and so do many small pieces that wait.
const SMALL_LENGTH: usize = 1024;

/// Small pieces are joined into pieces of about this length, in octets.
const JOINED_LENGTH: usize = 16 * 1024;
