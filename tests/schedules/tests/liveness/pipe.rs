//! A transport in memory: bounded, cut at random, and sometimes it takes nothing.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{holder::SharedHolder, random::Random};

/// One direction.
#[derive(Debug)]
pub(crate) struct Lane {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The most that one call moves.
    chunk: usize,
    /// No more is written.
    ended: bool,
    /// Both ends fail.
    broken: bool,
    /// Nothing moves.
    stalled: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    random: Random,
}

pub(crate) type SharedLane = Rc<RefCell<Lane>>;

impl Lane {
    pub(crate) fn new(random: &mut Random, is_wide: bool) -> SharedLane {
        let chunk = match is_wide {
            true => random.of(&[10_000, 100_000]),
            false => random.of(&[1, 7, 100, 1000, 100_000, 100_000]),
        };
        Rc::new(RefCell::new(Self {
            bytes: VecDeque::new(),
            capacity: random
                .of(&[1, 100, 5000, 65_536, 65_536])
                .max(chunk.min(5000)),
            chunk,
            ended: false,
            broken: false,
            stalled: false,
            reader: None,
            writer: None,
            random: random.fork(),
        }))
    }

    /// Whether the reader would get something.
    pub(crate) fn has_something(&self) -> bool {
        self.broken || (!self.stalled && (self.ended || !self.bytes.is_empty()))
    }

    /// Whether the writer would get rid of something.
    pub(crate) fn has_room(&self) -> bool {
        self.broken || (!self.stalled && self.bytes.len() < self.capacity)
    }

    /// Whether the writer would get rid of something that arrives.
    pub(crate) fn takes(&self) -> bool {
        !self.broken && !self.ended && self.has_room()
    }

    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        self.wake();
    }

    /// What was written still arrives, and then the end.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    pub(crate) fn tear(&mut self) {
        self.broken = true;
        self.wake();
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    /// Takes bytes of a writer. Returns how many.
    fn poll_take(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken || self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !self.has_room() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let most = bytes.len().min(self.capacity - self.bytes.len());
        let step = self.step(most);
        self.bytes.extend(&bytes[..step]);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(step))
    }

    /// Returns how many bytes move in this call, at most `most`.
    fn step(&mut self, most: usize) -> usize {
        1 + self.random.below(most.min(self.chunk))
    }

    /// Now and then a transport says that it is not ready, and wakes at once.
    fn hesitates(&mut self, cx: &Context<'_>) -> bool {
        let hesitates = self.random.one_in(12);
        if hesitates {
            cx.waker().wake_by_ref();
        }
        hesitates
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) input: SharedLane,
    pub(crate) output: SharedLane,
    pub(crate) holder: SharedHolder,
}

impl Pipe {
    /// Passes on what is held, until nothing is.
    fn poll_pass_on(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let holder = &mut *self.holder.borrow_mut();
            if holder.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = self.output.borrow_mut().poll_take(cx, holder.front());
            holder.pass(ready!(passed)?);
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let lane = &mut *self.input.borrow_mut();
        if lane.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !lane.has_something() {
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if lane.hesitates(cx) {
            return Poll::Pending;
        }
        let most = lane.bytes.len().min(buf.remaining());
        if most > 0 {
            let step = lane.step(most);
            let (front, back) = lane.bytes.as_slices();
            let of_front = step.min(front.len());
            buf.put_slice(&front[..of_front]);
            buf.put_slice(&back[..step - of_front]);
            lane.bytes.drain(..step);
        }
        if let Some(writer) = lane.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // As TLS does: it takes bytes although nothing moves below, until it is full.
        let passed = this.poll_pass_on(cx)?;
        let holder = &mut *this.holder.borrow_mut();
        let taken = match holder.room() {
            0 if passed.is_ready() => ready!(this.output.borrow_mut().poll_take(cx, buf))?,
            0 => return Poll::Pending,
            room => buf.len().min(room),
        };
        let is_held = holder.room() > 0;
        holder.take(&buf[..taken], is_held);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_pass_on(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pass_on(cx))?;
        this.output.borrow_mut().end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.output.borrow_mut().end();
        // Like a socket that is closed with bytes unread: the other side cannot write any more.
        self.input.borrow_mut().tear();
    }
}
