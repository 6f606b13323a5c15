//! The driver, made to do what a [`Machine`](crate::machine::Machine) has done.
//!
//! A row test acts on the protocol machine alone, where every step can be seen. Its script is
//! recorded: received bytes, calls of the application, time that passed, bytes that were read.
//! [`follow`] repeats the script with the driver and the handles of streams, over a transport in
//! memory. It checks that the same frames come out in the same order, and that the handles return
//! the same results.
//!
//! Two things are not compared, because handles do them in steps of their own: the time at which
//! WINDOW_UPDATE frames are sent, and the pieces into which payload is cut between two frames of
//! other streams.

mod handles;
mod pipe;
mod story;
mod transcript;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use spdy_frame::{HeaderBlock, Side};
use spdy_session::{
    Driver, Incoming, PendingStream, SendStream, Session, SessionError, Timeout,
    proto::{OpenOptions, Phase},
};

use self::{
    handles::Handles,
    pipe::{Pipe, State, Woken, poll},
    story::{Story, stories},
    transcript::{Order, Transcript},
};
use crate::{
    application::{Application, Outset, Step},
    happened::{End, Happened},
    received::{Reader, fields},
};

/// Repeats the script of a connection.
///
/// # Panics
///
/// If the driver does something else.
pub(crate) fn follow(outset: &Outset, did: &Application, happened: &[Happened]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(tokio::task::unconstrained(async {
        let mut driven = Driven::new(outset);
        let mut sent = Transcript::new(Reader::new(outset.version));
        let mut expected = Transcript::new(Reader::new(outset.version));
        for step in &did.script {
            match step {
                Step::Output(bytes) => {
                    expected.add(bytes);
                    sent.add(&driven.output());
                    if sent.frames != expected.frames {
                        assert!(
                            driven.order.is_free,
                            "driver: {:#?}\nmachine: {:#?}",
                            sent.frames, expected.frames
                        );
                        assert_eq!(sent.by_stream(), expected.by_stream());
                    }
                    sent.frames.clear();
                    expected.frames.clear();
                }
                step => driven.take(step).await,
            }
            driven.order.note(step);
        }
        driven.settle();
        for (stream, story) in stories(happened) {
            driven.compare_story(stream, &story);
        }
        driven.compare_end(did);
    }));
}

/// A driver and those who act on its handles.
struct Driven {
    side: Side,
    driver: Driver<Pipe>,
    woken: Arc<Woken>,
    pipe: Rc<RefCell<State>>,
    session: Session,
    incoming: Incoming,
    streams: BTreeMap<u32, Handles>,
    pings: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    end: Option<Result<(), SessionError>>,
    order: Order,
}

impl Driven {
    fn new(outset: &Outset) -> Self {
        let pipe = Rc::new(RefCell::new(State::default()));
        let io = Pipe(Rc::clone(&pipe));
        let make = match outset.side {
            Side::Client => spdy_session::client,
            Side::Server => spdy_session::server,
        };
        let (session, incoming, driver) = make(io, outset.version, (*outset.config).clone());
        Self {
            side: outset.side,
            driver,
            woken: Arc::default(),
            pipe,
            session,
            incoming,
            streams: BTreeMap::new(),
            pings: Vec::new(),
            end: None,
            order: Order::default(),
        }
    }

    /// Polls the driver until it waits.
    fn settle(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..100_000 {
            if self.end.is_some() {
                return;
            }
            self.woken.0.store(false, Ordering::Relaxed);
            match Pin::new(&mut self.driver).poll(&mut cx) {
                Poll::Ready(end) => self.end = Some(end),
                Poll::Pending if !self.woken.0.load(Ordering::Relaxed) => return,
                Poll::Pending => {}
            }
        }
        panic!("the driver does not come to rest");
    }

    /// Reads all that the driver has to send.
    fn output(&mut self) -> Vec<u8> {
        let mut pipe = self.pipe.borrow_mut();
        pipe.is_read = true;
        State::wake(&mut pipe.writer);
        drop(pipe);
        self.settle();
        let mut pipe = self.pipe.borrow_mut();
        pipe.is_read = false;
        std::mem::take(&mut pipe.output)
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Input(bytes) => self.feed(|pipe| pipe.input.extend_from_slice(bytes)),
            Step::EndOfInput => self.feed(|pipe| pipe.ended = true),
            Step::Advance(time) => {
                tokio::time::advance(*time).await;
                self.settle();
            }
            Step::Prepare => self.settle(),
            Step::Output(_) => unreachable!("it is compared"),
            Step::Open(stream, headers, how) => self.open(*stream, headers.clone(), *how),
            Step::Ping => self.ping(),
            Step::Shutdown(how) => self.session.shutdown(*how),
            Step::Accept(stream) => drop(self.handles(*stream)),
            Step::Reply(stream, headers, fin) => {
                let handles = self.handles(*stream).expect("the stream is known");
                handles.reply(headers.clone(), *fin);
            }
            Step::Headers(stream, headers, fin) => {
                let send = self.sender(*stream);
                // The driver may know already what the machine was not told yet.
                _ = send.map(|send| send.send_headers(headers.clone(), *fin));
            }
            Step::Data(stream, payload, fin) => {
                let send = self.sender(*stream);
                _ = send.map(|send| send.send_data(payload.clone(), *fin));
            }
            Step::Consume(stream, bytes) => self.consume(*stream, *bytes),
            Step::StopReading(stream) => self.give_up(*stream, |handles| handles.recv = None),
            Step::Reset(stream, status) => self.give_up(*stream, |handles| {
                if let Some(reply) = handles.reply.take() {
                    reply.reset(*status);
                } else if let Some(send) = handles.send.take() {
                    send.reset(*status);
                }
            }),
            Step::Release(stream) => self.give_up(*stream, |handles| {
                (handles.recv, handles.reply, handles.send) = (None, None, None);
            }),
        }
    }

    fn feed(&mut self, input: impl FnOnce(&mut State)) {
        let mut pipe = self.pipe.borrow_mut();
        input(&mut pipe);
        State::wake(&mut pipe.reader);
        drop(pipe);
        self.settle();
    }

    fn open(&mut self, stream: u32, headers: HeaderBlock, how: OpenOptions) {
        let handles = Handles {
            opening: Some(self.session.open(headers, how)),
            mute: how.unidirectional,
            ..Handles::default()
        };
        self.streams.insert(stream, handles);
    }

    fn ping(&mut self) {
        let session = self.session.clone();
        let mut ping: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(async move { drop(session.ping().await) });
        assert!(poll(ping.as_mut()).is_pending());
        self.pings.push(ping);
    }

    /// Does what ends some of a stream, if it is there.
    fn give_up(&mut self, stream: u32, end: impl FnOnce(&mut Handles)) {
        if let Some(handles) = self.handles(stream) {
            handles.split();
            handles.given_up = true;
            end(handles);
        }
    }

    /// The handles of a stream, once it is accepted or open.
    fn handles(&mut self, stream: u32) -> Option<&mut Handles> {
        let is_opening = |handles: &Handles| handles.opening.is_some();
        if self.streams.get(&stream).is_some_and(is_opening) {
            self.settle();
            let handles = self.streams.get_mut(&stream)?;
            if let Some(mut opening) = handles.opening.take()
                && let Poll::Ready(Ok(opened)) = poll(Pin::new(&mut opening))
            {
                assert_eq!(opened.id().get(), stream, "ids are given in order");
                let (recv, send) = opened.split();
                (handles.recv, handles.send) = (Some(recv), Some(send));
            }
        }
        let known = self.streams.len();
        while !self.streams.contains_key(&stream) {
            let pending = self.incoming.try_accept().ok()?;
            self.note_opened(pending);
        }
        self.order.is_free |= self.streams.len() > known + 1;
        self.streams.get_mut(&stream)
    }

    fn note_opened(&mut self, pending: PendingStream) {
        let story = Story {
            opened: Some((
                fields(pending.headers()),
                !pending.has_body(),
                pending.priority().get(),
                pending.associated().map_or(0, |stream| stream.get()),
                pending.is_unidirectional(),
            )),
            ..Story::default()
        };
        let id = pending.id().get();
        let handles = Handles {
            pending: Some(pending),
            story,
            ..Handles::default()
        };
        self.streams.insert(id, handles);
    }

    /// Reads this number of bytes of a stream. The driver may have to go on reading for it.
    fn consume(&mut self, stream: u32, mut bytes: usize) {
        while bytes > 0 {
            let read = match self.handles(stream) {
                Some(handles) => handles.read(bytes),
                None => return,
            };
            self.settle();
            if read == 0 {
                return;
            }
            bytes -= read;
        }
    }

    fn sender(&mut self, stream: u32) -> Option<&mut SendStream> {
        let handles = self.handles(stream)?;
        handles.split();
        if handles.reply.is_some() {
            // The machine does so by itself.
            handles.reply(HeaderBlock::new(), false);
        }
        handles.send.as_mut()
    }

    /// A stream has brought the same to its handles as to the machine.
    fn compare_story(&mut self, stream: u32, expected: &Story) {
        let is_pushed = stream % 2 == self.side.first_id() % 2;
        let is_over = self.end.is_some();
        let Some(handles) = self.handles(stream) else {
            // A session that has ended gives no stream to its application any more.
            assert!(is_over, "stream {stream} is missing: {expected:?}");
            return;
        };
        if handles.given_up {
            return;
        }
        handles.split();
        handles.read_all(is_pushed);
        let mut told = handles.story.clone();
        if told.end.is_none() && told.finished && expected.end.is_some() {
            // A stream that was read to its end tells only its sender.
            told.end = handles.closed();
        }
        if handles.mute {
            told.finished = expected.finished;
        }
        if expected.end == Some(End::TimedOut(Timeout::Unread)) {
            // What the application has not taken in time is dropped, and with it the end.
            assert!(!told.finished && told.data.begins(&expected.data));
            (told.data, told.finished) = (expected.data.clone(), expected.finished);
        }
        assert_eq!(&told, expected, "what stream {stream} has brought");
    }

    fn compare_end(&mut self, did: &Application) {
        if did.phase() != Phase::Closing {
            assert!(self.end.is_none(), "the driver has ended: {:?}", self.end);
            return;
        }
        self.pipe.borrow_mut().ended = true;
        self.output();
        self.output();
        match &self.end {
            Some(end) => assert_eq!(
                format!("{end:?}"),
                format!("{:?}", did.outcome()),
                "how the session has ended"
            ),
            None => panic!("the driver goes on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use spdy_frame::Version;
    use spdy_session::Config;

    use super::*;
    use crate::machine::Machine;

    fn followed_with(max_streams: u32) {
        let mut machine = Machine::server(Version::V3).alone("it is followed by hand");
        machine.request(1);
        machine.reply(1, true);
        machine.sent();
        let mut config = Config::default();
        config.limits.max_streams = max_streams;
        let outset = Outset {
            side: Side::Server,
            version: Version::V3,
            config: Arc::new(config),
        };
        follow(&outset, &machine.connection, &[]);
    }

    #[test]
    fn a_machine_and_a_driver_that_do_the_same_agree() {
        followed_with(100);
    }

    #[test]
    #[should_panic = "driver:"]
    fn a_frame_that_differs_is_noticed() {
        followed_with(99);
    }

    #[test]
    #[should_panic = "is missing"]
    fn a_stream_that_does_not_come_is_noticed() {
        let mut machine = Machine::server(Version::V3).alone("it is followed by hand");
        machine.request(1);
        machine.connection.script.pop();
        let outset = Outset {
            side: Side::Server,
            version: Version::V3,
            config: Arc::default(),
        };
        let fields = Vec::new();
        let opened = Happened::Replied {
            id: 1,
            fields,
            fin: false,
        };
        follow(&outset, &machine.connection, &[opened]);
    }
}
