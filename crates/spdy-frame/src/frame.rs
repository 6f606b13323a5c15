//! The frames as data: one struct for each type.
//!
//! `B` is how octets are held: `&[u8]` when a frame borrows the buffer it was parsed from, [`Bytes`] when it
//! shares it. `H` is how a header block is held: [`CompressedBlock`] as it came from the wire, or
//! `&HeaderBlock` on its way into a [`HeaderEncoder`](crate::HeaderEncoder).

use bytes::Bytes;

use crate::{GoAwayStatus, Priority, RstStatus, Setting, StreamId, WindowIncrement, WindowTarget};

/// Any frame.
#[derive(Debug)]
pub enum Frame<B = Bytes> {
    /// DATA, or a piece of one.
    Data(Data<B>),
    /// SYN_STREAM: opens a stream.
    SynStream(SynStream<CompressedBlock<B>>),
    /// SYN_REPLY: accepts a stream.
    SynReply(SynReply<CompressedBlock<B>>),
    /// RST_STREAM: ends a stream abnormally.
    RstStream(RstStream),
    /// SETTINGS.
    Settings(Settings),
    /// NOOP (SPDY/2): nothing.
    Noop,
    /// PING.
    Ping(Ping),
    /// GOAWAY: no more streams on this session.
    GoAway(GoAway),
    /// HEADERS: more header fields for an open stream.
    Headers(Headers<CompressedBlock<B>>),
    /// WINDOW_UPDATE (SPDY/3 and later): more credit.
    WindowUpdate(WindowUpdate),
    /// CREDENTIAL (SPDY/3): a client certificate; never deployed.
    Credential(Credential<B>),
    /// A control frame of a type that the version does not have. Receivers skip it (protocol.md §5.11).
    Unknown(UnknownControl<B>),
}

/// The kind of a frame, for messages and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// DATA.
    Data,
    /// SYN_STREAM, type 1.
    SynStream,
    /// SYN_REPLY, type 2.
    SynReply,
    /// RST_STREAM, type 3.
    RstStream,
    /// SETTINGS, type 4.
    Settings,
    /// NOOP, type 5.
    Noop,
    /// PING, type 6.
    Ping,
    /// GOAWAY, type 7.
    GoAway,
    /// HEADERS, type 8.
    Headers,
    /// WINDOW_UPDATE, type 9.
    WindowUpdate,
    /// CREDENTIAL, type 10.
    Credential,
    /// Any other control frame type.
    Unknown(u16),
}

/// A compressed header block as it stands in a frame: a slice of the input.
///
/// It has to go through the session's [`HeaderDecoder`](crate::HeaderDecoder) exactly once and in wire order,
/// also when nobody wants its fields: the compression context runs through all blocks of a direction
/// (protocol.md §8.4). So it is not `Clone`, and dropping it unread is flagged.
#[derive(Debug)]
#[must_use = "a block that is not inflated loses the compression context of the session"]
pub struct CompressedBlock<B = Bytes>(pub(crate) B);

/// DATA (protocol.md §6): payload of a stream, or a piece of it.
#[derive(Debug)]
pub struct Data<B = Bytes> {
    /// The stream.
    pub stream: StreamId,
    /// Whether the sender has finished the stream with this piece. Only the last piece of a frame has it.
    pub fin: bool,
    /// Flag 0x02 of an early SPDY/3 text, "compressed": the payload cannot be interpreted. Never sent.
    pub compressed: bool,
    /// How many octets of the same frame are still to come in further pieces; 0 with the last piece.
    pub rest: u32,
    /// The octets. May be empty, also with `rest` above 0 when only the head has arrived.
    pub payload: B,
}

/// SYN_STREAM (protocol.md §5.1): opens a stream.
#[derive(Debug)]
pub struct SynStream<H> {
    /// The new stream.
    pub stream: StreamId,
    /// The stream that this one belongs to; pushes have one.
    pub associated: Option<StreamId>,
    /// How urgent the stream is.
    pub priority: Priority,
    /// The initiator sends nothing after this frame.
    pub fin: bool,
    /// The acceptor may not answer.
    pub unidirectional: bool,
    /// The header block.
    pub block: H,
}

/// SYN_REPLY (protocol.md §5.2): accepts a stream.
#[derive(Debug)]
pub struct SynReply<H> {
    /// The stream.
    pub stream: StreamId,
    /// The acceptor sends nothing after this frame.
    pub fin: bool,
    /// The header block.
    pub block: H,
}

/// RST_STREAM (protocol.md §5.3): ends a stream both ways at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RstStream {
    /// The stream.
    pub stream: StreamId,
    /// Why.
    pub status: RstStatus,
}

/// SETTINGS (protocol.md §5.4).
///
/// At most [`Settings::MAX_ENTRIES`] entries are kept; a longer frame is checked and its surplus ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Frame flag 0x01, sent by servers only: forget the values persisted before.
    pub clear: bool,
    /// The entries in wire order; a repeated id is dropped (the first one counts).
    pub entries: Vec<Setting>,
}

/// PING (protocol.md §5.6, §16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Odd if the client started the exchange, even (also 0) if the server did.
    pub id: u32,
}

/// GOAWAY (protocol.md §5.7, §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The highest stream of the receiver that the sender may have acted on.
    pub last_good: Option<StreamId>,
    /// Why; always [`GoAwayStatus::OK`] in SPDY/2, which has no field for it.
    pub status: GoAwayStatus,
}

/// HEADERS (protocol.md §5.8): more fields for a stream; trailers when `fin` is set.
#[derive(Debug)]
pub struct Headers<H> {
    /// The stream.
    pub stream: StreamId,
    /// The sender sends nothing after this frame. Honoured in SPDY/2 on receipt, never written there.
    pub fin: bool,
    /// The header block.
    pub block: H,
}

/// WINDOW_UPDATE (protocol.md §5.9, §13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUpdate {
    /// Whose window grows.
    pub target: WindowTarget,
    /// By how much.
    pub increment: WindowIncrement,
}

/// CREDENTIAL (protocol.md §5.10): its length is checked, its contents are not.
#[derive(Debug)]
pub struct Credential<B = Bytes> {
    /// The 1-based slot.
    pub slot: u16,
    /// Proof and certificates, uninterpreted.
    pub payload: B,
}

/// A control frame whose type the version does not have.
#[derive(Debug)]
pub struct UnknownControl<B = Bytes> {
    /// The type number.
    pub kind: u16,
    /// The flags octet.
    pub flags: u8,
    /// The payload.
    pub payload: B,
}

impl Settings {
    /// How many entries of one frame are looked at.
    pub const MAX_ENTRIES: usize = 64;
}

impl std::fmt::Display for FrameKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Data => "DATA",
            Self::SynStream => "SYN_STREAM",
            Self::SynReply => "SYN_REPLY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::Noop => "NOOP",
            Self::Ping => "PING",
            Self::GoAway => "GOAWAY",
            Self::Headers => "HEADERS",
            Self::WindowUpdate => "WINDOW_UPDATE",
            Self::Credential => "CREDENTIAL",
            Self::Unknown(kind) => return write!(f, "control type {kind}"),
        })
    }
}

impl Frame<Bytes> {
    /// In the making.
    pub fn encode(&self, _version: crate::Version, _dst: &mut bytes::BytesMut) -> Result<(), crate::EncodeError> {
        unimplemented!()
    }
}
