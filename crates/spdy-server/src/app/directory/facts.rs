//! The facts about a file, which tell its states apart.

use std::{
    fs::Metadata,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The facts about a file that HTTP uses. While they are unchanged, so are the contents, except for
/// the case in [`is_settled`](Self::is_settled).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    is_dir: bool,
    len: u64,
    modified: Option<SystemTime>,
}

impl Facts {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            is_dir: metadata.is_dir(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }

    /// Returns the time of the last change, if HTTP can write it.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        let has_date = |time: &SystemTime| {
            let since = time.duration_since(UNIX_EPOCH);
            since.is_ok_and(|since| since < END_OF_DATES)
        };
        self.modified.filter(has_date)
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) const fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// Returns whether a change after `now` shows in the time of the last change.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let age = |modified| now.duration_since(modified).ok();
        self.modified
            .and_then(age)
            .is_some_and(|age| age >= COARSEST_CLOCK)
    }
}

/// The end of the year 9999, after which a date of HTTP has no form.
const END_OF_DATES: Duration = Duration::from_secs(253_402_300_800);

impl tower_http::services::fs::Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Identifies a file with its contents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    facts: Facts,
    /// The device, the number, and the time of the last change of the inode, which cannot be set
    /// back.
    #[cfg(unix)]
    node: (u64, u64, i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            facts: Facts::of(metadata),
            #[cfg(unix)]
            node: (
                metadata.dev(),
                metadata.ino(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ),
        }
    }
}

/// Two changes within this time can have the same time of change, on the file systems with the
/// coarsest clocks.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);
