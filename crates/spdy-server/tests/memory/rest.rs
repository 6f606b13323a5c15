//! Idle sessions: each has its own connection and has made one request, or many at once.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use flate2::{Compress, Compression, FlushCompress};
use spdy_server::Version;
use spdy_tests::frames::{self, StoredBlocks};

/// The requests of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) version: Version,
    /// The size of the compression window, as a power of two.
    pub(crate) bits: u8,
    /// Whether the block ends with a sync flush.
    pub(crate) is_flushed: bool,
    /// The number of bytes of additional fields.
    pub(crate) more: usize,
    /// How many requests come at once.
    pub(crate) requests: u32,
}

impl Head {
    /// Chrome has a window of 2 KiB, zlib's default is 32 KiB.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kinds = [
            (Version::V3_1, true),
            (Version::V3_1, false),
            (Version::V3, true),
            (Version::V2, true),
        ];
        let sizes = [
            (11, 0, 1),
            (15, 0, 1),
            (11, 40_000, 1),
            (15, 40_000, 1),
            (11, 0, 16),
            (11, 0, 100),
        ];
        kinds.into_iter().flat_map(move |(version, is_flushed)| {
            sizes.map(|(bits, more, requests)| Self {
                version,
                bits,
                is_flushed,
                more,
                requests,
            })
        })
    }

    pub(crate) const fn window(self) -> usize {
        1 << self.bits
    }

    /// Whether there is one head, it is small, and it ends as it should, so that no state of the
    /// inflater is kept.
    pub(crate) const fn is_small(self) -> bool {
        self.more == 0 && self.is_flushed && self.requests == 1
    }

    fn bytes(self) -> Vec<u8> {
        let names = match self.version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            _ => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let values = ["GET", "/hello", "HTTP/1.1", "a.test", "http"];
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = names
            .into_iter()
            .zip(values)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        for field in 0..4_usize {
            let value = (0..self.more / 4).map(|n| b'a' + (n * (field + 7) % 23) as u8);
            pairs.push((format!("x-{field}").into(), value.collect()));
        }
        let plain = frames::plain_block(self.version, &pairs);
        let flush = if self.is_flushed {
            FlushCompress::Sync
        } else {
            FlushCompress::Partial
        };
        let mut deflate = Compress::new_with_window_bits(Compression::best(), true, self.bits);
        let request = |number| {
            let mut block = Vec::with_capacity(2 * plain.len() + 1000);
            deflate.compress_vec(&plain, &mut block, flush).unwrap();
            frames::syn_stream(self.version, 2 * number + 1)
                .fin()
                .compressed_block(block)
                .bytes(&mut StoredBlocks::new(self.version))
        };
        (0..self.requests).flat_map(request).collect()
    }
}

/// Opens this number of sessions, and waits for the responses of each.
pub(crate) fn sessions(address: SocketAddr, head: Head, number: usize) -> Vec<TcpStream> {
    let request = head.bytes();
    let session = |_| {
        let mut io = TcpStream::connect(address).expect("`ulimit -n` allows two for each session");
        io.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        io.write_all(&request).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // SETTINGS and PING come first, then SYN_REPLY or RST_STREAM, whose first bytes are known.
        let replies = [
            [0x80, wire(head.version), 0, 2],
            [0x80, wire(head.version), 0, 3],
        ];
        while replies
            .iter()
            .map(|reply| count(&answer, reply))
            .sum::<usize>()
            < head.requests as usize
        {
            let more = io.read(&mut piece).unwrap();
            assert!(more > 0, "the session goes on");
            answer.extend_from_slice(&piece[..more]);
        }
        io
    };
    (0..number).map(session).collect()
}

/// Returns whether a connection is served, and not closed at once.
pub(crate) fn is_served(address: SocketAddr) -> bool {
    let mut io = TcpStream::connect(address).unwrap();
    io.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 1];
    let request = b"GET /hello HTTP/1.1\r\nhost: a.test\r\n\r\n";
    io.write_all(request).is_ok() && matches!(io.read(&mut answer), Ok(1))
}

const fn wire(version: Version) -> u8 {
    match version {
        Version::V2 => 2,
        Version::V3 | Version::V3_1 => 3,
    }
}

fn count(bytes: &[u8], wanted: &[u8]) -> usize {
    let windows = bytes.windows(wanted.len());
    windows.filter(|window| *window == wanted).count()
}
