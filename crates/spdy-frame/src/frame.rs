//! One struct for each type of frame.
//!
//! `B` is the type of the bytes: `&[u8]` if a frame borrows the buffer that it was parsed from,
//! [`Bytes`] if it shares it. `H` is the type of a header block: [`CompressedBlock`] as received,
//! or `&HeaderBlock` to be written with a [`HeaderEncoder`](crate::HeaderEncoder).

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{EncodeError, Version};

mod block;
mod control;
mod credential;
mod data;
mod go_away;
pub(crate) mod head;
mod headers;
mod ping;
mod rst_stream;
mod settings;
mod syn_reply;
mod syn_stream;
mod unknown;
mod window_update;

pub use self::{
    block::CompressedBlock, credential::Credential, data::Data, go_away::GoAway, headers::Headers,
    ping::Ping, rst_stream::RstStream, settings::Settings, syn_reply::SynReply,
    syn_stream::SynStream, unknown::UnknownControl, window_update::WindowUpdate,
};

/// A frame of any type.
///
/// `B` is the type of its bytes: [`Bytes`] from a [`Decoder`](crate::Decoder), `&[u8]` from
/// [`parse`](crate::parse). The enum is exhaustive: SPDY gets no more types of frames.
///
/// `Display` writes one line for a log, such as `SYN_STREAM stream=1 associated=0 priority=3
/// flags=FIN block=72`. Neither `Display` nor `Debug` shows payloads or header blocks.
#[derive(PartialEq, Eq)]
pub enum Frame<B = Bytes> {
    /// DATA, or a piece of one.
    Data(Data<B>),
    /// SYN_STREAM: opens a stream.
    SynStream(SynStream<CompressedBlock<B>>),
    /// SYN_REPLY: accepts a stream.
    SynReply(SynReply<CompressedBlock<B>>),
    /// RST_STREAM: ends a stream abnormally.
    RstStream(RstStream),
    /// SETTINGS: parameters of the session.
    Settings(Settings),
    /// NOOP (SPDY/2): has no effect.
    Noop,
    /// PING: measures the round trip, or checks that the peer is alive.
    Ping(Ping),
    /// GOAWAY: the sender accepts no more streams.
    GoAway(GoAway),
    /// HEADERS: more header fields for an open stream.
    Headers(Headers<CompressedBlock<B>>),
    /// WINDOW_UPDATE (SPDY/3 and later): enlarges a window.
    WindowUpdate(WindowUpdate),
    /// CREDENTIAL (SPDY/3): a client certificate. It was never deployed.
    Credential(Credential<B>),
    /// A control frame without a meaning in this session. Receivers skip it ([protocol.md §5.11]).
    ///
    /// [protocol.md §5.11]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#511-unknown-control-frame-types
    Unknown(UnknownControl<B>),
}

/// The type of a frame, for messages and counters. `Display` writes the name in the drafts.
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
    /// Another control frame type, with its number.
    Unknown(u16),
}

impl<B> Frame<B> {
    /// Returns the type of the frame.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Data(_) => FrameKind::Data,
            Self::SynStream(_) => FrameKind::SynStream,
            Self::SynReply(_) => FrameKind::SynReply,
            Self::RstStream(_) => FrameKind::RstStream,
            Self::Settings(_) => FrameKind::Settings,
            Self::Noop => FrameKind::Noop,
            Self::Ping(_) => FrameKind::Ping,
            Self::GoAway(_) => FrameKind::GoAway,
            Self::Headers(_) => FrameKind::Headers,
            Self::WindowUpdate(_) => FrameKind::WindowUpdate,
            Self::Credential(_) => FrameKind::Credential,
            Self::Unknown(frame) => FrameKind::Unknown(frame.type_number),
        }
    }
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// Appends the frame to `dst`, with its header block as it is.
    ///
    /// A session does not need this method: it writes header blocks with a
    /// [`HeaderEncoder`](crate::HeaderEncoder), and other frames with the methods of their structs.
    ///
    /// # Errors
    ///
    /// Returns [`EncodeError::TooLarge`] if the payload is longer than 16,777,215 bytes, and
    /// [`EncodeError::NotInVersion`] for NOOP outside SPDY/2, WINDOW_UPDATE in SPDY/2 and
    /// CREDENTIAL outside SPDY/3. After an error `dst` is unchanged.
    pub fn encode(&self, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let not_in_version = Err(EncodeError::NotInVersion {
            kind: self.kind(),
            version,
        });
        match self {
            Self::Data(frame) => return frame.encode(dst),
            Self::SynStream(frame) => return frame.encode(version, dst),
            Self::SynReply(frame) => return frame.encode(version, dst),
            Self::RstStream(frame) => frame.encode(version, dst),
            Self::Settings(frame) => frame.encode(version, dst),
            Self::Noop if version != Version::V2 => return not_in_version,
            Self::Noop => head::put_control(version, head::NOOP, 0, 0, dst),
            Self::Ping(frame) => frame.encode(version, dst),
            Self::GoAway(frame) => frame.encode(version, dst),
            Self::Headers(frame) => return frame.encode(version, dst),
            Self::WindowUpdate(_) if !version.has_stream_windows() => return not_in_version,
            Self::WindowUpdate(frame) => frame.encode(version, dst),
            Self::Credential(frame) => return frame.encode(version, dst),
            Self::Unknown(frame) => return frame.encode(version, dst),
        }
        Ok(())
    }
}

/// Shows the lengths of header blocks and payloads instead of their bytes.
impl<B: AsRef<[u8]>> fmt::Debug for Frame<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(frame) => frame.fmt(f),
            Self::SynStream(frame) => frame.fmt(f),
            Self::SynReply(frame) => frame.fmt(f),
            Self::RstStream(frame) => frame.fmt(f),
            Self::Settings(frame) => frame.fmt(f),
            Self::Noop => f.write_str("Noop"),
            Self::Ping(frame) => frame.fmt(f),
            Self::GoAway(frame) => frame.fmt(f),
            Self::Headers(frame) => frame.fmt(f),
            Self::WindowUpdate(frame) => frame.fmt(f),
            Self::Credential(frame) => frame.fmt(f),
            Self::Unknown(frame) => frame.fmt(f),
        }
    }
}

impl<B: AsRef<[u8]>> fmt::Display for Frame<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(frame) => frame.fmt(f),
            Self::SynStream(frame) => frame.fmt(f),
            Self::SynReply(frame) => frame.fmt(f),
            Self::RstStream(frame) => frame.fmt(f),
            Self::Settings(frame) => frame.fmt(f),
            Self::Noop => f.write_str("NOOP"),
            Self::Ping(frame) => frame.fmt(f),
            Self::GoAway(frame) => frame.fmt(f),
            Self::Headers(frame) => frame.fmt(f),
            Self::WindowUpdate(frame) => frame.fmt(f),
            Self::Credential(frame) => frame.fmt(f),
            Self::Unknown(frame) => frame.fmt(f),
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// Formats flags for a log: the names of those that are set, joined by `|`, or 0.
struct FlagNames<const N: usize>([(bool, &'static str); N]);

impl<const N: usize> fmt::Display for FlagNames<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in self.0.iter().filter(|(is_set, _)| *is_set) {
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
        if separator.is_empty() {
            f.write_str("0")
        } else {
            Ok(())
        }
    }
}

/// Formats a status for a log: its name, or its number if it has no name.
struct Code {
    name: Option<&'static str>,
    number: u32,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => self.number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        GoAwayStatus, Priority, RstStatus, Setting, SettingId, StreamId, WindowIncrement,
        WindowTarget,
    };

    fn one_of_each() -> Vec<(Frame<&'static [u8]>, &'static str)> {
        let stream = StreamId::new(3).unwrap();
        let zip: &[u8] = b"zip";
        let block = || CompressedBlock::new(zip);
        let increment = WindowIncrement::new(9).unwrap();
        vec![
            (
                Frame::Data(Data {
                    stream,
                    fin: true,
                    compressed: true,
                    remaining: 0,
                    payload: zip,
                }),
                "DATA stream=3 flags=FIN|COMPRESSED length=3",
            ),
            (
                Frame::Data(Data {
                    stream,
                    fin: false,
                    compressed: false,
                    remaining: 7,
                    payload: &[],
                }),
                "DATA stream=3 flags=0 length=0 remaining=7",
            ),
            (
                Frame::SynStream(SynStream {
                    stream,
                    associated: StreamId::new(1),
                    priority: Priority::HIGHEST,
                    fin: true,
                    unidirectional: true,
                    block: block(),
                }),
                "SYN_STREAM stream=3 associated=1 priority=0 flags=FIN|UNIDIRECTIONAL block=3",
            ),
            (
                Frame::SynReply(SynReply {
                    stream,
                    fin: false,
                    block: block(),
                }),
                "SYN_REPLY stream=3 flags=0 block=3",
            ),
            (
                Frame::RstStream(RstStream {
                    stream,
                    status: RstStatus::CANCEL,
                }),
                "RST_STREAM stream=3 status=CANCEL",
            ),
            (
                Frame::Settings(Settings {
                    clear: true,
                    entries: vec![
                        Setting::new(SettingId::MAX_CONCURRENT_STREAMS, 100),
                        Setting::new(SettingId::INITIAL_WINDOW_SIZE, 65_536),
                    ],
                }),
                "SETTINGS flags=CLEAR MAX_CONCURRENT_STREAMS=100 INITIAL_WINDOW_SIZE=65536",
            ),
            (Frame::Noop, "NOOP"),
            (Frame::Ping(Ping { id: 7 }), "PING id=7"),
            (
                Frame::GoAway(GoAway {
                    last_good: None,
                    status: GoAwayStatus(99),
                }),
                "GOAWAY last_good=0 status=99",
            ),
            (
                Frame::Headers(Headers {
                    stream,
                    fin: true,
                    block: block(),
                }),
                "HEADERS stream=3 flags=FIN block=3",
            ),
            (
                Frame::WindowUpdate(WindowUpdate {
                    target: WindowTarget::Session,
                    increment,
                }),
                "WINDOW_UPDATE stream=0 increment=9",
            ),
            (
                Frame::Credential(Credential {
                    slot: 2,
                    payload: &[0; 4],
                }),
                "CREDENTIAL slot=2 length=4",
            ),
            (
                Frame::Unknown(UnknownControl {
                    type_number: 0xf000,
                    flags: 1,
                    payload: zip,
                }),
                "UNKNOWN type=61440 flags=0x01 length=3",
            ),
        ]
    }

    #[test]
    fn a_frame_shows_itself_in_one_line() {
        for (frame, line) in one_of_each() {
            assert_eq!(frame.to_string(), line);
        }
    }

    #[test]
    fn frames_which_a_version_does_not_have_are_not_written() {
        let refused = |version| -> Vec<FrameKind> {
            let mut dst = BytesMut::new();
            let all = one_of_each();
            let refused = all.iter().filter_map(|(frame, _)| {
                let error = frame.encode(version, &mut dst).err()?;
                assert_eq!(
                    error,
                    EncodeError::NotInVersion {
                        kind: frame.kind(),
                        version
                    }
                );
                Some(frame.kind())
            });
            refused.collect()
        };
        assert_eq!(
            refused(Version::V2),
            [FrameKind::WindowUpdate, FrameKind::Credential]
        );
        assert_eq!(refused(Version::V3), [FrameKind::Noop]);
        assert_eq!(
            refused(Version::V3_1),
            [FrameKind::Noop, FrameKind::Credential]
        );
    }
}
