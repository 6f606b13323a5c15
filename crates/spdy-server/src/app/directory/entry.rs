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
    list::Item,
};

/// A file, a directory or a list as it was when it was checked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) kind: Kind,
    /// The file in gzip, if that is shorter.
    pub(super) gzip: Option<Bytes>,
    pub(super) identity: Identity,
    /// Whether a later change must show in the facts.
    pub(super) is_settled: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    /// All bytes of the file.
    Small(Bytes),
    /// The file, which is read by position because several responses share the handle.
    Large(File),
    /// What is in a directory, in an order, and whether that is all.
    List {
        items: Vec<Item>,
        is_whole: bool,
    },
}

impl Kind {
    pub(super) fn is_same_list(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::List { items, is_whole },
                Self::List {
                    items: others,
                    is_whole: whole,
                },
            ) => items == others && is_whole == whole,
            _ => false,
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

    /// Returns the number of bytes of it that are in memory.
    pub(super) fn bytes(&self) -> usize {
        let own = match &self.kind {
            Kind::Small(bytes) => bytes.len(),
            Kind::List { items, .. } => items.iter().map(Item::bytes).sum(),
            Kind::Large(_) | Kind::Directory => 0,
        };
        own + self.gzip.as_ref().map_or(0, Bytes::len)
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Large(_))
    }
}
