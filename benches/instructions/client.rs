//! The bytes of a client that does as it likes: it grants the largest windows and waits for
//! nothing.

use bytes::{Bytes, BytesMut};
use spdy_frame::{
    DEFAULT_WINDOW, Data, HeaderBlock, HeaderCompression, HeaderEncoder, MAX_WINDOW, Priority,
    Setting, SettingFlags, SettingId, Settings, Side, StreamId, SynStream, Version,
    WindowIncrement, WindowTarget, WindowUpdate,
};

use crate::data::{PIECE, request};

/// Writes the frames of one session.
pub(crate) struct Client {
    encoder: HeaderEncoder,
    next: StreamId,
    written: BytesMut,
}

impl Client {
    /// A client that has written its SETTINGS.
    pub(crate) fn new() -> Self {
        let mut written = BytesMut::new();
        let windows = Setting {
            id: SettingId::INITIAL_WINDOW_SIZE,
            flags: SettingFlags::default(),
            value: MAX_WINDOW,
        };
        let settings = Settings {
            clear: false,
            entries: vec![windows],
        };
        settings.encode(VERSION, &mut written);
        let increment = WindowIncrement::new(MAX_WINDOW - DEFAULT_WINDOW);
        WindowUpdate {
            target: WindowTarget::Session,
            increment: increment.expect("it is not zero"),
        }
        .encode(VERSION, &mut written);
        Self {
            encoder: HeaderEncoder::new(VERSION, HeaderCompression::Indexed),
            next: StreamId::first(Side::Client),
            written,
        }
    }

    /// Writes a GET.
    pub(crate) fn get(&mut self, path: &str) {
        self.begin("GET", path, true);
    }

    /// Writes the head of a POST.
    pub(crate) fn begin_post(&mut self) {
        self.begin("POST", "/", false);
    }

    /// Writes a piece of the body of the latest request.
    pub(crate) fn payload(&mut self, fin: bool) {
        let latest = StreamId::new(self.next.get() - 2).expect("a request has begun");
        Data::encode_head(latest, fin, PIECE as u32, &mut self.written);
        self.written.extend_from_slice(&[0; PIECE]);
    }

    /// What was written since the last call.
    pub(crate) fn take(&mut self) -> Bytes {
        self.written.split().freeze()
    }

    fn begin(&mut self, method: &str, path: &str, fin: bool) {
        let frame = SynStream {
            stream: self.next,
            associated: None,
            priority: Priority::default(),
            fin,
            unidirectional: false,
            block: &head(method, path),
        };
        self.encoder
            .encode_syn_stream(&frame, &mut self.written)
            .expect("it fits into a frame");
        self.next = self.next.next().expect("there are ids enough");
    }
}

/// The head that all benches send, with another method and path.
fn head(method: &str, path: &str) -> HeaderBlock {
    let mut head = HeaderBlock::new();
    for field in &request() {
        let appended = match field.name() {
            b":method" => head.append(":method", method),
            b":path" => head.append(":path", path),
            name => head.append(name, field.value()),
        };
        appended.expect("the field is sound");
    }
    head
}

const VERSION: Version = Version::V3_1;
