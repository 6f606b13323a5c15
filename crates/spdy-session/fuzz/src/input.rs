//! Bytes as a script.

use spdy_frame::{
    Data, GoAway, GoAwayStatus, HeaderBlock, HeaderCompression, HeaderEncoder, Headers, Ping,
    Priority, RstStatus, RstStream, StreamId, SynReply, SynStream, Version, WindowIncrement,
    WindowTarget, WindowUpdate,
    bytes::{BufMut, BytesMut},
};

use super::id;

/// The rest of the bytes. After the last one come zeros.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        match self.byte() {
            255 => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
            254 => 0x7fff_ffff - u32::from(self.byte()),
            253 => 0xffff,
            small => u32::from(small),
        }
    }

    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Returns a stream id, most of the time a low one.
pub(crate) fn stream_id(input: &mut Input<'_>) -> StreamId {
    match input.byte() {
        255 => id(input.number()),
        small => id(u32::from(small % 12) + 1),
    }
}

/// Returns a block of a few header fields.
pub(crate) fn block(input: &mut Input<'_>) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    let fields = input.byte();
    for n in 0..fields % 4 {
        let (name, value) = match fields >> (n + 2) & 3 {
            0 => (&b"x-same"[..], &b"the same"[..]),
            1 => (&b"cookie"[..], &b"secret"[..]),
            2 => (&b"x-more"[..], input.take(5)),
            _ => (input.take(3), input.take(5)),
        };
        // Fields whose name or value is invalid are left out.
        _ = block.append(name, value);
    }
    block
}

/// Writes the frames of a peer.
pub(crate) struct Frames {
    version: Version,
    encoder: HeaderEncoder,
}

impl Frames {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            encoder: HeaderEncoder::new(version, HeaderCompression::Indexed),
        }
    }
}

/// Writes one frame, which may contain a wrong byte.
pub(crate) fn frame(frames: &mut Frames, input: &mut Input<'_>, what: u8, wire: &mut BytesMut) {
    let start = wire.len();
    let version = frames.version;
    let stream = stream_id(input);
    let flags = input.byte();
    let fin = flags & 1 != 0;
    match what % 12 {
        0 | 1 => {
            let block = block(input);
            let frame = SynStream {
                stream,
                associated: (flags & 2 != 0).then(|| stream_id(input)),
                priority: Priority::from_byte(version, flags),
                fin,
                unidirectional: flags & 4 != 0,
                block: &block,
            };
            _ = frames.encoder.encode_syn_stream(&frame, wire);
        }
        2 => {
            let block = block(input);
            let frame = SynReply {
                stream,
                fin,
                block: &block,
            };
            _ = frames.encoder.encode_syn_reply(&frame, wire);
        }
        3 => {
            let block = block(input);
            let frame = Headers {
                stream,
                fin,
                block: &block,
            };
            _ = frames.encoder.encode_headers(&frame, wire);
        }
        4 | 5 => {
            let length = usize::from(input.byte()) << (flags >> 5);
            Data::encode_head(stream, fin, length as u32, wire);
            wire.put_bytes(7, length);
        }
        6 => RstStream {
            stream,
            status: RstStatus(input.number()),
        }
        .encode(version, wire),
        7 => settings(version, input, flags, wire),
        8 => Ping { id: input.number() }.encode(version, wire),
        9 => {
            let last_good = (!fin).then_some(stream);
            let status = GoAwayStatus(input.number());
            GoAway { last_good, status }.encode(version, wire);
        }
        10 if version != Version::V2 => {
            let target = if flags & 2 == 0 {
                WindowTarget::Stream(stream)
            } else {
                WindowTarget::Session
            };
            if let Some(increment) = WindowIncrement::new(input.number()) {
                WindowUpdate { target, increment }.encode(version, wire);
            }
        }
        _ => wire.extend_from_slice(input.take(usize::from(flags % 32))),
    }
    // One frame in sixteen is damaged.
    let written = wire.len() - start;
    if flags >> 3 & 0b1111 == 0b1111 && written > 0 {
        let at = start + usize::from(input.byte()) % written;
        wire[at] ^= 1 << (input.byte() % 8);
    }
}

/// Writes SETTINGS, in which an entry may occur twice.
fn settings(version: Version, input: &mut Input<'_>, flags: u8, wire: &mut BytesMut) {
    let entries = flags % 4;
    wire.put_u16(0x8000 | version.wire_version());
    wire.put_u16(4);
    wire.put_u32(4 + 8 * u32::from(entries));
    wire.put_u32(entries.into());
    for _ in 0..entries {
        let id = u32::from(input.byte() % 9);
        match version {
            Version::V2 => wire.put_u32_le(id),
            Version::V3 | Version::V3_1 => wire.put_u32(id),
        }
        wire.put_u32(input.number());
    }
}
