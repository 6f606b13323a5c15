//! A connection that records all calls, so that the calls can be repeated with the driver.

use std::{ops::Deref, sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};
use spdy_session::{
    OpenError, SessionError, StreamError,
    proto::{Connection, OpenOptions, PingId, Shutdown},
};

/// A [`Connection`] whose calls are recorded. Its results are read from the connection itself.
#[derive(Debug)]
pub struct Application {
    connection: Connection,
    pub(crate) script: Vec<Step>,
    /// Why the script cannot be repeated with the driver.
    pub(crate) alone: Option<&'static str>,
}

/// A recorded step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The peer wrote these bytes.
    Input(Vec<u8>),
    /// The peer closed its direction of the transport.
    EndOfInput,
    /// The clock was advanced.
    Advance(Duration),
    /// The connection prepared what it has to send, and the peer read none of it.
    Prepare,
    /// The peer read everything: these bytes.
    Output(Vec<u8>),
    Open(u32, HeaderBlock, OpenOptions),
    Accept(u32),
    Reply(u32, HeaderBlock, bool),
    Headers(u32, HeaderBlock, bool),
    Data(u32, Bytes, bool),
    Consume(u32, usize),
    StopReading(u32),
    Reset(u32, RstStatus),
    Release(u32),
    Ping,
    Shutdown(Shutdown),
}

impl Application {
    pub(crate) const fn new(connection: Connection) -> Self {
        Self {
            connection,
            script: Vec::new(),
            alone: None,
        }
    }

    /// The connection, for the calls that its driver makes.
    pub(crate) const fn inner(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn alone(&mut self, why: &'static str) {
        self.alone.get_or_insert(why);
    }

    fn note<E>(&mut self, result: &Result<(), E>, step: Step) {
        if result.is_ok() {
            self.script.push(step);
        }
    }
}

/// The methods of [`Connection`] with these names.
#[allow(missing_docs, clippy::missing_errors_doc, reason = "see Connection")]
impl Application {
    pub fn open(
        &mut self,
        now: Instant,
        headers: HeaderBlock,
        how: OpenOptions,
    ) -> Result<StreamId, OpenError> {
        let opened = self.connection.open(now, headers.clone(), how);
        if let Ok(id) = opened {
            self.script.push(Step::Open(id.get(), headers, how));
        }
        opened
    }

    pub fn accept(&mut self, id: StreamId) {
        self.connection.accept(id);
        self.script.push(Step::Accept(id.get()));
    }

    pub fn send_reply(
        &mut self,
        id: StreamId,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        let result = self.connection.send_reply(id, headers.clone(), fin);
        self.note(&result, Step::Reply(id.get(), headers, fin));
        result
    }

    pub fn send_headers(
        &mut self,
        id: StreamId,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        let result = self.connection.send_headers(id, headers.clone(), fin);
        self.note(&result, Step::Headers(id.get(), headers, fin));
        result
    }

    pub fn send_data(
        &mut self,
        id: StreamId,
        payload: Bytes,
        fin: bool,
    ) -> Result<(), StreamError> {
        let result = self.connection.send_data(id, payload.clone(), fin);
        self.note(&result, Step::Data(id.get(), payload, fin));
        result
    }

    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let result = self.connection.finish(id);
        self.note(&result, Step::Data(id.get(), Bytes::new(), true));
        result
    }

    pub fn consume(&mut self, id: StreamId, bytes: usize) {
        self.connection.consume(id, bytes);
        self.script.push(Step::Consume(id.get(), bytes));
    }

    pub fn consume_headers(&mut self, id: StreamId, bytes: usize) {
        self.connection.consume_headers(id, bytes);
        self.alone("handles are done with a header block when they give it away");
    }

    pub fn stop_reading(&mut self, id: StreamId) {
        self.connection.stop_reading(id);
        self.script.push(Step::StopReading(id.get()));
    }

    pub fn reset(&mut self, id: StreamId, status: RstStatus) {
        self.connection.reset(id, status);
        self.script.push(Step::Reset(id.get(), status));
    }

    pub fn release(&mut self, id: StreamId) {
        self.connection.release(id);
        self.script.push(Step::Release(id.get()));
    }

    pub fn ping(&mut self, now: Instant) -> PingId {
        self.script.push(Step::Ping);
        self.connection.ping(now)
    }

    pub fn shutdown(&mut self, now: Instant, how: Shutdown) {
        self.connection.shutdown(now, how);
        self.script.push(Step::Shutdown(how));
    }

    pub fn skip_to(&mut self, id: StreamId) {
        self.connection.skip_to(id);
        self.alone("handles cannot skip ids");
    }

    pub fn handle_transport_error(&mut self, error: SessionError) {
        self.connection.handle_transport_error(error);
        self.alone("the transport of the test does not fail");
    }
}

impl Deref for Application {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// The start of a script.
#[derive(Debug)]
pub(crate) struct Outset {
    pub(crate) side: spdy_frame::Side,
    pub(crate) version: spdy_frame::Version,
    pub(crate) config: Arc<spdy_session::Config>,
}
