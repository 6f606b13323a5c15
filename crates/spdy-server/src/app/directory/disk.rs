//! What is asked of the disk, by blocking calls on a thread for blocking work.

use std::{io, sync::Arc, time::SystemTime};

use super::{
    Directory,
    entry::{Entry, Kind},
    facts::Identity,
    gzip::is_text,
    list::{List, Most},
    root::{Below, Root},
    shares::{Counted, Refusal, Share, Shares},
};

/// The disk below a directory, as the configuration shows it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: Root,
    pub(super) shares: Shares,
    pub(super) limits: Directory,
}

/// What is asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// What is at this path.
    At(Below),
    /// What is in this directory.
    In(Below),
}

/// What was found, and the compressed files beside it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) entry: Arc<Entry>,
    pub(super) sidecars: Sidecars,
}

impl Disk {
    pub(super) fn new(limits: Directory) -> Self {
        Self {
            root: Root::new(&limits),
            shares: Shares::new(&limits),
            limits,
        }
    }

    /// Asks the disk. Returns `known` itself if it is unchanged. The answer has the share that is
    /// given, if it needs one.
    ///
    /// # Errors
    /// Returns the error of the system, or what is missing for the answer. A path that is neither a
    /// file nor a directory is not found, because opening a pipe can block forever.
    pub(super) fn look(
        &self,
        question: &Question,
        known: Option<Arc<Entry>>,
        given: Option<Share>,
    ) -> Result<Found, Refusal> {
        let (entry, sidecars) = match question {
            Question::At(path) => (self.entry(path, known, given)?, self.sidecars(path)),
            Question::In(path) => (self.list(path, known, given)?, Sidecars::default()),
        };
        Ok(Found { entry, sidecars })
    }

    fn entry(
        &self,
        path: &Below,
        known: Option<Arc<Entry>>,
        given: Option<Share>,
    ) -> Result<Arc<Entry>, Refusal> {
        let there = self.root.metadata(path)?;
        let now = SystemTime::now();
        let identity = Identity::of(&there);
        match known {
            Some(known) if known.identity == identity && known.is_reused(now, &self.shares) => {
                Ok(known)
            }
            _ if there.is_dir() => Ok(Arc::new(Entry::new(&there, Kind::Directory, now))),
            _ if there.is_file() => self.open(path, now, given).map(Arc::new),
            _ => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }

    fn open(&self, path: &Below, now: SystemTime, given: Option<Share>) -> Result<Entry, Refusal> {
        let file = self.root.open(path)?;
        let mut entry = Entry::open(file, now, self.limits.max_small, &self.shares, given)?;
        if self.compresses(path, &entry) {
            entry.compress(&self.shares)?;
        }
        Ok(entry)
    }

    fn compresses(&self, path: &Below, entry: &Entry) -> bool {
        let limits = &self.limits;
        // What does not fit into the cache would be compressed for each request.
        let longest = limits.max_compressed.min(limits.max_bytes);
        let lengths = limits.min_compressed as u64..=longest as u64;
        limits.compress
            && limits.max_entries > 0
            && entry.is_settled
            && lengths.contains(&entry.facts.len())
            && is_text(path.path())
    }

    /// Returns the compressed files beside a file. A name beside a directory means nothing.
    fn sidecars(&self, path: &Below) -> Sidecars {
        if !self.limits.precompressed {
            return Sidecars::default();
        }
        let is_there = |end: &str| {
            let mut name = path.path().as_os_str().to_owned();
            name.push(end);
            let beside = self.root.below(name.into());
            beside.is_ok_and(|it| self.root.metadata(&it).is_ok_and(|it| it.is_file()))
        };
        Sidecars(SIDECARS.map(is_there))
    }

    fn list(
        &self,
        path: &Below,
        known: Option<Arc<Entry>>,
        given: Option<Share>,
    ) -> Result<Arc<Entry>, Refusal> {
        let there = self.root.metadata(path)?;
        let most = Most {
            entries: self.limits.max_listed,
            bytes: self.limits.max_bytes,
        };
        let list = List::read(&self.root, path, most)?;
        if let Some(known) = known
            && known.kind.is_list(&list)
        {
            return Ok(known);
        }
        let bytes = list.bytes() as u64;
        let share = match given {
            Some(given) if given.has_bytes(bytes) => given.shrink_to(bytes),
            _ => self.shares.bytes(bytes)?,
        };
        let kind = Kind::List(Counted::new(list, share));
        Ok(Arc::new(Entry::new(&there, kind, SystemTime::now())))
    }
}

/// The ends of the names of compressed files, as `ServeDir` has them.
const SIDECARS: [&str; 3] = [".zst", ".br", ".gz"];

/// Which compressed files are beside a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sidecars([bool; SIDECARS.len()]);

impl Sidecars {
    /// Returns whether there is one whose name ends like this.
    pub(super) fn has(self, name: &str) -> bool {
        let mut all = SIDECARS.iter().zip(self.0);
        all.any(|(end, is_there)| is_there && name.ends_with(end))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{env, fs, path::Path, process, sync::mpsc, thread, time::Duration};

    use super::*;

    /// Returns the disk below the directory of a file, which keeps files of this length in memory,
    /// and what it finds at the file.
    pub(crate) fn look_at(file: &Path, max_small: usize) -> io::Result<Arc<Entry>> {
        let mut limits = Directory::new(file.parent().unwrap());
        limits.max_small = max_small;
        let disk = Disk::new(limits);
        let path = disk.root.below(file.file_name().unwrap().into())?;
        let found = disk.look(&Question::At(path), None, None)?;
        Ok(found.entry)
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_that_takes_the_place_of_a_file_is_not_waited_for() {
        let path = env::temp_dir().join(format!("spdy-entry-pipe-{}", process::id()));
        let made = process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (tell, told) = mpsc::channel();
        let disk = Disk::new(Directory::new(env::temp_dir()));
        let swapped = disk.root.below(path.file_name().unwrap().into()).unwrap();
        // It was a file when it was looked at.
        let open = move || -> io::Result<_> {
            disk.open(&swapped, SystemTime::now(), None)?;
            Ok(())
        };
        thread::spawn(move || tell.send(open()));
        let opened = told.recv_timeout(Duration::from_secs(60));
        fs::remove_file(path).unwrap();
        let error = opened.expect("opening does not wait").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
