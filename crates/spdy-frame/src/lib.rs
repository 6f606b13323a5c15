//! Frame codec and header compression for SPDY/2, SPDY/3 and SPDY/3.1.
//!
//! *In scope:* every frame of the three versions, with its limits and errors ([`Decoder`],
//! [`Frame`]), and the header blocks in frames ([`HeaderDecoder`], [`HeaderEncoder`]). The crate
//! does no I/O and reads no clock, and it keeps no state of a session apart from header
//! compression. Its only dependency, [`bytes`], is part of the public API.
//!
//! *Out of scope:* which frames a stream can have in which state, flow control, priorities and
//! timeouts, which the crate `spdy-session` implements, and requests and responses, which the crate
//! `spdy-tower` implements.
//!
//! # Reading
//!
//! One [`Decoder`] and one [`HeaderDecoder`] serve one direction of a session. This example decodes
//! two captured requests ([protocol.md §22]). The second block is short because it continues the
//! compression of the first: therefore *every* block must go through the header decoder, in order.
//!
//! ```
//! use spdy_frame::{
//!     DecodeLimits, Decoder, Frame, HeaderDecoder, HeaderLimits, Version, bytes::BytesMut,
//! };
//!
//! let mut input = BytesMut::from(
//!     &b"\x80\x03\x00\x01\x01\x00\x00\x4b\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x38\xea\
//!        \xe3\xc6\xa7\xc2\x02\x65\x25\x50\x7a\xb4\x42\xa4\x5a\x77\xd7\x10\x90\xa8\x55\x41\
//!        \x22\xb8\x6c\x62\xd4\x07\x25\x52\x2b\xec\x09\x96\xd5\x0a\x5a\x90\xb0\x25\xea\x95\
//!        \xa4\x82\x59\xec\x56\xc5\xc0\x42\x33\x17\x5c\xb2\x66\x94\x94\x14\x14\x03\x00\x00\
//!        \x00\xff\xff\
//!        \x80\x03\x00\x01\x01\x00\x00\x13\x00\x00\x00\x03\x00\x00\x00\x00\x60\x00\xa2\x83\
//!        \x15\x00\x00\x00\x00\xff\xff"[..],
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
//! A [`HeaderEncoder`] writes the frames that contain header fields, because it holds the state of
//! the compression. Other frames write themselves. The payload of a DATA frame need not be copied:
//! [`Data::encode_head`] writes only the head.
//!
//! ```
//! use spdy_frame::{
//!     Data, HeaderBlock, HeaderCompression, HeaderEncoder, Side, StreamId, SynReply, Version,
//!     bytes::BytesMut,
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
//! [`Decoder`] documents how input is limited and when errors occur, [`FrameError`] what is sent to
//! the peer because of them. [`CompressedBlock`] and [`HeaderBlock`] are a header block before and
//! after the [`HeaderDecoder`]. [`parse`] is for captures and tools.
//!
//! # Versions and panics
//!
//! The section numbers in these docs are those of the [description of the protocol] in the
//! repository. No input makes a function of this crate panic.
//!
//! [description of the protocol]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md
//!
//! [protocol.md §22]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#22-test-vectors

#![cfg_attr(docsrs, feature(doc_cfg))]
// The example of the page is compiled.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

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
    error::{EncodeError, FrameError, HeaderError, OutOfRangeError},
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
    version::{ParseVersionError, Version},
    window::{DEFAULT_WINDOW, MAX_WINDOW, WindowIncrement, WindowTarget},
};

// A session and everything that it passes on can move to another thread.
const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Decoder>();
    is_send_and_sync::<Frame>();
    is_send_and_sync::<HeaderBlock>();
    is_send_and_sync::<HeaderDecoder>();
    is_send_and_sync::<HeaderEncoder>();
    is_send_and_sync::<Fields<'_>>();
    is_send_and_sync::<FrameError>();
    is_send_and_sync::<HeaderError>();
    is_send_and_sync::<EncodeError>();
    is_send_and_sync::<OutOfRangeError>();
    is_send_and_sync::<ParseVersionError>();
};
