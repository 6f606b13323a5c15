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
};

/// A file, a directory or a list as it was when it was checked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) kind: Kind,
    /// The file in gzip, if that is shorter.
    gzip: Option<Bytes>,
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
    Small(Bytes),
    /// The file, which is read by position because several responses share the handle.
    Large(File),
    /// What is in a directory.
    List(List),
}

impl Kind {
    pub(super) fn is_same_list(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(list), Self::List(other)) => list == other,
            _ => false,
        }
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
    pub(super) fn open(mut file: File, now: SystemTime, max_small: usize) -> io::Result<Self> {
        let before = file.metadata()?;
        // Something else can have taken the place of the file since it was looked at.
        if !before.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if before.len() > max_small as u64 {
            return Ok(Self::new(&before, Kind::Large(file), now));
        }
        // The buffer has one more byte than the file, to notice a file that grows.
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        (&mut file).take(before.len() + 1).read_to_end(&mut bytes)?;
        let after = file.metadata()?;
        let is_whole = Facts::of(&before) == Facts::of(&after);
        if is_whole && bytes.len() as u64 == after.len() {
            Ok(Self::new(&after, Kind::Small(bytes.into()), now))
        } else {
            // The file is changing. A response that is sent from the file notices if it changes
            // again.
            Ok(Self::new(&after, Kind::Large(file), now))
        }
    }

    pub(super) fn new(metadata: &Metadata, kind: Kind, now: SystemTime) -> Self {
        let facts = Facts::of(metadata);
        Self {
            own: kind.bytes(),
            is_settled: facts.is_settled(now),
            identity: Identity::of(metadata),
            gzip: None,
            facts,
            kind,
        }
    }

    /// Compresses a file that has not changed recently.
    pub(super) fn compress(&mut self) -> io::Result<()> {
        let len = self.facts.len();
        let compressed = match &self.kind {
            Kind::Small(bytes) => gzip(&bytes[..], len)?,
            Kind::Large(file) => {
                let compressed = gzip(file.take(len), len)?;
                let is_unchanged = Facts::of(&file.metadata()?) == self.facts;
                compressed.filter(|_| is_unchanged)
            }
            _ => None,
        };
        self.gzip = compressed;
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
        self.gzip.as_deref()
    }

    /// Returns the number of bytes of it that are in memory.
    pub(super) fn bytes(&self) -> usize {
        self.own + self.gzip.as_ref().map_or(0, Bytes::len)
    }

    /// Returns whether an entry whose identity is unchanged is used again. An open file is the same
    /// one if it is opened again, and is only opened again once it is settled.
    pub(super) fn is_reused(&self, now: SystemTime) -> bool {
        let is_same_file = cfg!(unix) && self.is_open();
        self.is_settled || is_same_file && !self.facts.is_settled(now)
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Large(_))
    }
}
