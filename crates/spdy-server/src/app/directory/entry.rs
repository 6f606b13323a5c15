//! What is at a path.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    facts::{Facts, Identity},
    gzip::gzip,
    list::List,
    shares::{Counted, Held, Open, Refusal, Share, Shares},
};

/// A file, a directory or a list as it was when it was checked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) kind: Kind,
    /// The file in gzip, if that is shorter.
    gzip: Option<Counted<Bytes>>,
    /// Whether more of it would be in memory if there had been a share for it.
    pub(super) is_short: bool,
    pub(super) identity: Identity,
    /// Whether a later change must show in the facts.
    pub(super) is_settled: bool,
    /// The number of bytes of `kind` in memory, which is asked for more often than a list could be
    /// counted.
    own: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    /// All bytes of the file.
    Small(Counted<Bytes>),
    /// The file, which is read by position because several responses share the handle.
    Large(Open),
    /// What is in a directory.
    List(Counted<List>),
}

impl Kind {
    pub(super) fn is_list(&self, other: &List) -> bool {
        matches!(self, Self::List(list) if **list == *other)
    }

    /// Returns the number of bytes of it that are in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::List(list) => list.bytes(),
            Self::Large(_) | Self::Directory => 0,
        }
    }
}

impl Entry {
    /// Reads a small file, or keeps a large one open: with this share of the open files if there is
    /// one, and with a new one otherwise.
    pub(super) fn open(
        mut file: File,
        now: SystemTime,
        max_small: usize,
        shares: &Shares,
        given: Option<Share>,
    ) -> Result<Self, Refusal> {
        let large = |file, facts: &Metadata| -> Result<Self, Refusal> {
            let share = given.map_or_else(|| shares.file(), Ok)?;
            let kind = Kind::Large(shares.counted(file, share));
            Ok(Self::new(facts, kind, now))
        };
        let before = file.metadata()?;
        // Something else can have taken the place of the file since it was looked at.
        if !before.is_file() {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        if before.len() > max_small as u64 {
            return large(file, &before);
        }
        let Ok(share) = shares.bytes(before.len()) else {
            let mut entry = large(file, &before)?;
            entry.is_short = true;
            return Ok(entry);
        };
        // The buffer has one more byte than the file, to notice a file that grows.
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        (&mut file).take(before.len() + 1).read_to_end(&mut bytes)?;
        let after = file.metadata()?;
        let is_whole = Facts::of(&before) == Facts::of(&after);
        if is_whole && bytes.len() as u64 == after.len() {
            let kind = Kind::Small(Counted::new(bytes.into(), share));
            Ok(Self::new(&after, kind, now))
        } else {
            // The file is changing. A response that is sent from the file notices if it changes
            // again.
            large(file, &after)
        }
    }

    pub(super) fn new(metadata: &Metadata, kind: Kind, now: SystemTime) -> Self {
        let facts = Facts::of(metadata);
        Self {
            own: kind.bytes(),
            is_settled: facts.is_settled(now),
            identity: Identity::of(metadata),
            gzip: None,
            is_short: false,
            facts,
            kind,
        }
    }

    /// Compresses a file that has not changed recently, if there is a share for the result.
    pub(super) fn compress(&mut self, shares: &Shares) -> io::Result<()> {
        let len = self.facts.len();
        let Ok(share) = shares.bytes(len) else {
            self.is_short = true;
            return Ok(());
        };
        let compressed = match &self.kind {
            Kind::Small(bytes) => gzip(&bytes[..], len)?,
            Kind::Large(file) => {
                let compressed = gzip((&***file).take(len), len)?;
                let is_unchanged = Facts::of(&file.metadata()?) == self.facts;
                compressed.filter(|_| is_unchanged)
            }
            _ => None,
        };
        self.gzip = compressed.map(|compressed| {
            let share = share.shrink_to(compressed.len() as u64);
            Counted::new(compressed, share)
        });
        Ok(())
    }

    /// Returns all bytes of a file that is kept in memory.
    pub(super) fn small(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Small(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the file in gzip, if that is shorter.
    pub(super) fn compressed(&self) -> Option<&[u8]> {
        self.gzip.as_deref().map(|gzip| &**gzip)
    }

    /// Returns the number of bytes of it that are in memory.
    pub(super) fn bytes(&self) -> usize {
        self.own + self.compressed().map_or(0, <[u8]>::len)
    }

    /// Returns whether an entry whose identity is unchanged is used again. An open file is the same
    /// one if it is opened again, and is only opened again once it is settled, or once there is a
    /// share for what is missing.
    pub(super) fn is_reused(&self, now: SystemTime, shares: &Shares) -> bool {
        let is_same_file = cfg!(unix) && self.is_open();
        let is_current = self.is_settled || is_same_file && !self.facts.is_settled(now);
        is_current && !(self.is_short && shares.has_bytes(self.facts.len()))
    }

    pub(super) fn holds(&self, held: Held) -> bool {
        match held {
            Held::File => self.is_open(),
            Held::Bytes => self.bytes() > 0,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Large(_))
    }
}
