//! Frames and header compression of SPDY/2, SPDY/3 and SPDY/3.1: bytes in, values out, and back.
//!
//! *In scope:* every frame of the three versions with its limits and its errors ([`Decoder`], [`Frame`]), and the
//! header blocks inside some of them ([`HeaderDecoder`], [`HeaderEncoder`]). All of it is free of input and
//! output, of clocks and of state that belongs to a session.
//!
//! *Out of scope:* what frames mean to each other. Which stream may have which frame when, flow control,
//! priorities and timeouts are the work of the crate `spdy-session`; requests and responses that of `spdy-tower`.
//!
//! # Reading
//!
//! One [`Decoder`] and one [`HeaderDecoder`] serve one direction of a session. Here are the requests of a client,
//! as captured (`docs/protocol.md`, section 22). The second block is short, since it continues the compression
//! of the first: so *every* block has to go through the header decoder, in order.
//!
//! ```
//! use spdy_frame::{DecodeLimits, Decoder, Frame, HeaderDecoder, HeaderLimits, Version, bytes::BytesMut};
//!
//! let mut input = BytesMut::from(
//!     &b"\x80\x03\x00\x01\x01\x00\x00\x4b\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x38\xea\xe3\xc6\xa7\xc2\
//!        \x02\x65\x25\x50\x7a\xb4\x42\xa4\x5a\x77\xd7\x10\x90\xa8\x55\x41\x22\xb8\x6c\x62\xd4\x07\x25\x52\
//!        \x2b\xec\x09\x96\xd5\x0a\x5a\x90\xb0\x25\xea\x95\xa4\x82\x59\xec\x56\xc5\xc0\x42\x33\x17\x5c\xb2\
//!        \x66\x94\x94\x14\x14\x03\x00\x00\x00\xff\xff\
//!        \x80\x03\x00\x01\x01\x00\x00\x13\x00\x00\x00\x03\x00\x00\x00\x00\x60\x00\xa2\x83\x15\x00\x00\x00\
//!        \x00\xff\xff"[..],
//! );
//!
//! let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
//! let mut headers = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
//! let mut log = Vec::new();
//! while let Some(frame) = decoder.decode(&mut input)? {
//!     log.push(frame.to_string());
//!     if let Frame::SynStream(frame) = frame {
//!         let block = headers.decode(frame.block)?;
//!         assert_eq!(block.get(":method"), Some(&b"GET"[..]));
//!         assert_eq!(block.get(":host"), Some(&b"a.test"[..]));
//!     }
//! }
//!
//! assert_eq!(log, [
//!     "SYN_STREAM stream=1 associated=0 priority=0 flags=FIN block=65",
//!     "SYN_STREAM stream=3 associated=0 priority=3 flags=FIN block=9",
//! ]);
//! assert!(!decoder.is_mid_frame());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing
//!
//! Frames with header fields are written by a [`HeaderEncoder`], which has the state of their compression; other
//! frames write themselves. The payload of DATA need not be copied: its head is enough.
//!
//! ```
//! use spdy_frame::{
//!     Data, HeaderBlock, HeaderCompression, HeaderEncoder, Side, StreamId, SynReply, Version, bytes::BytesMut,
//! };
//!
//! let mut headers = HeaderEncoder::new(Version::V3_1, HeaderCompression::default());
//! let mut output = BytesMut::new();
//!
//! let mut block = HeaderBlock::new();
//! block.append(":status", "200 OK")?;
//! block.append(":version", "HTTP/1.1")?;
//! let stream = StreamId::first(Side::Client);
//! headers.encode_syn_reply(&SynReply { stream, fin: false, block: &block }, &mut output)?;
//! Data::encode_head(stream, true, 5, &mut output);
//! output.extend_from_slice(b"hello");
//!
//! assert!(output.starts_with(b"\x80\x03\x00\x02"));
//! assert!(output.ends_with(b"\x00\x00\x00\x01\x01\x00\x00\x05hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to start
//!
//! [`Decoder`] says how input is bounded and when errors come, [`FrameError`] what a peer is told about them.
//! [`CompressedBlock`] and [`HeaderBlock`] are the two sides of header compression. [`parse`] is for captures and
//! tools.

mod decoder;
mod error;
mod frame;
mod headers;
mod hidden;
mod payload;
mod priority;
mod settings;
mod status;
mod stream_id;
mod version;
mod window;

pub use bytes;

pub use self::{
    decoder::{DecodeLimits, Decoder, parse},
    error::{EncodeError, FrameError, HeaderError},
    frame::{
        CompressedBlock, Credential, Data, Frame, FrameKind, GoAway, Headers, Ping, RstStream,
        Settings, SynReply, SynStream, UnknownControl, WindowUpdate,
    },
    headers::{
        Field, Fields, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderLimits,
    },
    priority::Priority,
    settings::{Setting, SettingFlags, SettingId},
    status::{GoAwayStatus, RstStatus},
    stream_id::{Side, StreamId},
    version::Version,
    window::{DEFAULT_WINDOW, MAX_WINDOW, WindowIncrement, WindowTarget},
};
