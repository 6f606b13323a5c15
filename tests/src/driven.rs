//! The driver, made to do what a [`Machine`](crate::machine::Machine) has done.
//!
//! A row test acts on the protocol machine alone, where every step can be seen. What it did is a script: octets that
//! came, calls of the application, time that passed, octets that were read. [`follow`] does the same with the driver
//! and the handles of streams, over a transport in memory, and finds that the same frames come out in the same order
//! and that the handles tell the same.
//!
//! Two things are not compared, as handles do them in steps of their own: when WINDOW_UPDATE frames are sent, and how
//! payload is cut into pieces between two frames of other streams.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, Side, Version};
use spdy_session::{
    Driver, Incoming, Opening, PendingStream, Received as Piece, RecvStream, SendReply, SendStream,
    Session, SessionError, StreamError, proto::Phase,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    application::{Application, Outset, Step},
    happened::{End, Happened, fields},
    wire::{Fields, Reader, Received},
};

/// Follows the script of a connection.
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
                Step::Output(octets) => {
                    expected.add(octets);
                    sent.add(&driven.output());
                    if sent != expected {
                        assert!(
                            driven.order.is_free,
                            "driver:\n{sent:#?}machine:\n{expected:#?}"
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

/// What the application has of a stream.
#[derive(Debug, Default)]
struct Handles {
    opening: Option<Opening>,
    pending: Option<PendingStream>,
    recv: Option<RecvStream>,
    reply: Option<SendReply>,
    send: Option<SendStream>,
    story: Story,
    /// The peer may not send on it.
    mute: bool,
    /// The application has given it up, so it is not told how it goes on.
    given_up: bool,
}

/// What a stream brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Story {
    opened: Option<(Fields, bool, u8, u32, bool)>,
    replied: Option<Fields>,
    data: Payload,
    headers: Vec<Fields>,
    finished: bool,
    end: Option<End>,
}

/// Payload, of which only the length is shown.
#[derive(Clone, Default, PartialEq, Eq)]
struct Payload(Vec<u8>);

impl Payload {
    fn add(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
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
            Step::Input(octets) => {
                let mut pipe = self.pipe.borrow_mut();
                pipe.input.extend_from_slice(octets);
                State::wake(&mut pipe.reader);
                drop(pipe);
                self.settle();
            }
            Step::EndOfInput => {
                let mut pipe = self.pipe.borrow_mut();
                pipe.ended = true;
                State::wake(&mut pipe.reader);
                drop(pipe);
                self.settle();
            }
            Step::Advance(time) => {
                tokio::time::advance(*time).await;
                self.settle();
            }
            Step::Prepare => self.settle(),
            Step::Output(_) => unreachable!("it is compared"),
            Step::Open(stream, headers, how) => {
                let opening = self.session.open(headers.clone(), *how);
                let handles = Handles {
                    opening: Some(opening),
                    mute: how.unidirectional,
                    ..Handles::default()
                };
                self.streams.insert(*stream, handles);
            }
            Step::Ping => {
                let session = self.session.clone();
                let mut ping: Pin<Box<dyn Future<Output = ()>>> =
                    Box::pin(async move { drop(session.ping().await) });
                assert!(poll(ping.as_mut()).is_pending());
                self.pings.push(ping);
            }
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
            Step::Consume(stream, octets) => self.consume(*stream, *octets),
            Step::StopReading(stream) => {
                if let Some(handles) = self.handles(*stream) {
                    handles.split();
                    handles.given_up = true;
                    handles.recv = None;
                }
            }
            Step::Reset(stream, status) => {
                if let Some(handles) = self.handles(*stream) {
                    handles.split();
                    handles.given_up = true;
                    if let Some(reply) = handles.reply.take() {
                        reply.refuse(*status);
                    } else if let Some(send) = handles.send.take() {
                        send.reset(*status);
                    }
                }
            }
            Step::Release(stream) => {
                if let Some(handles) = self.handles(*stream) {
                    handles.split();
                    handles.given_up = true;
                    (handles.recv, handles.reply, handles.send) = (None, None, None);
                }
            }
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

    /// Reads so many octets of a stream. The driver may have to go on reading for it.
    fn consume(&mut self, stream: u32, mut octets: usize) {
        while octets > 0 {
            let read = match self.handles(stream) {
                Some(handles) => handles.read(octets),
                None => return,
            };
            self.settle();
            if read == 0 {
                return;
            }
            octets -= read;
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

impl Handles {
    /// Takes a stream that is not answered apart.
    fn split(&mut self) {
        if let Some(pending) = self.pending.take() {
            let (recv, reply) = pending.split();
            (self.recv, self.reply) = (Some(recv), Some(reply));
        }
    }

    fn reply(&mut self, headers: HeaderBlock, fin: bool) {
        self.split();
        let reply = self.reply.take().expect("it is answered once");
        self.send = reply.reply(headers, fin).ok();
    }

    /// Reads at most so many octets, and says how many.
    fn read(&mut self, most: usize) -> usize {
        self.split();
        let Some(recv) = &mut self.recv else {
            return 0;
        };
        let mut room = vec![0; most];
        let mut buffer = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        _ = Pin::new(recv).poll_read(&mut cx, &mut buffer);
        self.story.data.add(buffer.filled());
        buffer.filled().len()
    }

    /// Reads what has come and is not read.
    fn read_all(&mut self, is_ours: bool) {
        let Some(recv) = &mut self.recv else {
            return;
        };
        let mut cx = Context::from_waker(Waker::noop());
        if is_ours && let Poll::Ready(Ok(block)) = recv.poll_reply(&mut cx) {
            self.story.replied = Some(fields(&block));
        }
        while let Poll::Ready(next) = recv.poll_next(&mut cx) {
            match next {
                Some(Ok(Piece::Data(payload))) => self.story.data.add(&payload),
                Some(Ok(Piece::Headers(block))) => self.story.headers.push(fields(&block)),
                Some(Err(error)) => {
                    self.story.end = Some(error.into());
                    return;
                }
                None => {
                    self.story.finished = true;
                    return;
                }
            }
        }
    }

    /// How the stream has ended, as its sender gets to know it.
    fn closed(&mut self) -> Option<End> {
        let mut cx = Context::from_waker(Waker::noop());
        let end: Poll<StreamError> = match (&mut self.reply, &mut self.send) {
            (Some(reply), _) => reply.poll_closed(&mut cx),
            (_, Some(send)) => send.poll_closed(&mut cx),
            _ => return None,
        };
        match end {
            Poll::Ready(error) => Some(error.into()),
            Poll::Pending => None,
        }
    }
}

/// What the machine has told, stream by stream.
fn stories(happened: &[Happened]) -> BTreeMap<u32, Story> {
    let mut stories = BTreeMap::<u32, Story>::new();
    for event in happened {
        let Some(stream) = event.stream() else {
            continue;
        };
        if matches!(event, Happened::Sent { .. }) {
            continue;
        }
        let story = stories.entry(stream).or_default();
        match event.clone() {
            Happened::Opened {
                fields,
                fin,
                priority,
                associated,
                unidirectional,
                ..
            } => {
                story.opened = Some((fields, fin, priority, associated, unidirectional));
                story.finished = fin;
            }
            Happened::Replied { fields, fin, .. } => {
                story.replied = Some(fields);
                story.finished |= fin;
            }
            Happened::Headers { fields, fin, .. } => {
                story.headers.push(fields);
                story.finished |= fin;
            }
            Happened::Data { payload, fin, .. } => {
                story.data.add(&payload);
                story.finished |= fin;
            }
            Happened::Reset { end, .. } => story.end = Some(end),
            Happened::Sent { .. } | Happened::Pong { .. } | Happened::GoAway { .. } => {}
        }
    }
    stories
}

/// What one side has sent, in a form that does not depend on how payload was cut.
struct Transcript {
    reader: Reader,
    frames: Vec<Received>,
}

impl Transcript {
    const fn new(reader: Reader) -> Self {
        Self {
            reader,
            frames: Vec::new(),
        }
    }

    fn add(&mut self, octets: &[u8]) {
        self.reader.buffer().extend_from_slice(octets);
        while let Some(frame) = self.reader.next_frame().expect("it sends sound frames") {
            self.push(frame);
        }
        assert!(!self.reader.is_mid_frame(), "it sends whole frames");
    }

    fn push(&mut self, frame: Received) {
        match (self.frames.last_mut(), frame) {
            (_, Received::WindowUpdate(_)) => {}
            (
                Some(Received::Data {
                    stream,
                    fin,
                    payload,
                }),
                Received::Data {
                    stream: next,
                    fin: last,
                    payload: more,
                },
            ) if *stream == next => {
                *payload = Bytes::from([&payload[..], &more[..]].concat());
                *fin = last;
            }
            (_, frame) => self.frames.push(frame),
        }
    }
}

impl Transcript {
    /// The frames of each stream; 0 has those of the session.
    fn by_stream(&self) -> BTreeMap<u32, Self> {
        let mut streams = BTreeMap::<u32, Self>::new();
        for frame in &self.frames {
            let stream = match frame {
                Received::Data { stream, .. }
                | Received::SynStream { stream, .. }
                | Received::SynReply { stream, .. }
                | Received::Headers { stream, .. } => *stream,
                Received::RstStream(frame) => frame.stream.get(),
                _ => 0,
            };
            streams
                .entry(stream)
                .or_insert_with(|| Self::new(Reader::new(Version::V2)))
                .push(frame.clone());
        }
        streams
    }
}

/// Whether the order of frames of different streams is one of the driver's own.
#[derive(Default)]
struct Order {
    /// The application has done something since anything was written.
    is_pending: bool,
    /// It may differ from that of the machine from now on.
    is_free: bool,
}

impl Order {
    /// The driver prepares frames whenever it runs, and it opens streams before it does anything else; the machine was
    /// asked to at the end, and did things in the order of the calls. Streams that are accepted together count as called
    /// then.
    fn note(&mut self, step: &Step) {
        match step {
            Step::Output(_) => self.is_pending = false,
            Step::Input(_) | Step::EndOfInput | Step::Prepare | Step::Open(..)
                if self.is_pending =>
            {
                self.is_free = true;
            }
            Step::Input(_) | Step::EndOfInput | Step::Prepare | Step::Advance(_) => {}
            _ => self.is_pending = true,
        }
    }
}

impl PartialEq for Transcript {
    fn eq(&self, other: &Self) -> bool {
        self.frames == other.frames
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.frames.iter().map(|frame| match frame {
            Received::Data {
                stream,
                fin,
                payload,
            } => format!("DATA {stream} of {} octets, fin {fin}", payload.len()),
            frame => format!("{frame:?}"),
        });
        f.debug_list().entries(lines).finish()
    }
}

/// A transport in memory whose other end is the script.
struct Pipe(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    input: BytesMut,
    ended: bool,
    reader: Option<Waker>,
    output: Vec<u8>,
    /// Somebody reads the output.
    is_read: bool,
    writer: Option<Waker>,
}

impl State {
    fn wake(place: &mut Option<Waker>) {
        if let Some(waker) = place.take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.input.is_empty() && !state.ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let octets = state.input.len().min(buf.remaining());
        buf.put_slice(&state.input.split_to(octets));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if !state.is_read {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.output.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a task was woken.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future once.
fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = pin!(future);
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

#[cfg(test)]
mod tests {
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
    fn what_is_the_same_is_the_same() {
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
