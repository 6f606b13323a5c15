//! Detects changes of the files of a certificate.

#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::{fs, path::PathBuf, time::SystemTime};

use crate::config::Certificate;

/// Reports when the files of a certificate have changed.
#[derive(Debug)]
pub(crate) struct Watch {
    files: [PathBuf; 2],
    /// The state at the last reported change.
    told: State,
    /// The state at the last check.
    seen: State,
}

/// The versions of the files. `None` if a file cannot be found.
type State = [Option<Version>; 2];

/// What distinguishes the versions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    length: u64,
    /// The device and the number of the file. Another file has others, also one that was renamed to
    /// this path with an old time, or to which a link of Kubernetes (`..data`) now leads.
    #[cfg(unix)]
    file: [u64; 2],
    /// When the file, or the right to read it, was last changed. No program can set this back.
    #[cfg(unix)]
    changed: [i64; 2],
}

impl Watch {
    /// Records the current state. Returns `None` if the certificate has no files.
    pub(crate) fn new(certificate: &Certificate) -> Option<Self> {
        let files = match certificate {
            Certificate::Files { chain, key } => [chain.clone(), key.clone()],
            _ => return None,
        };
        let now = look(&files);
        Some(Self {
            files,
            told: now,
            seen: now,
        })
    }

    /// Checks the files. Returns true once for each change: when the files differ from the last
    /// reported state and were the same in two checks. A certificate and its key are two files,
    /// which are not replaced at the same instant.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = look(&self.files);
        let at_rest = now == self.seen;
        self.seen = now;
        if !at_rest || now == self.told {
            return false;
        }
        self.told = now;
        true
    }

    /// Records the current state as reported.
    pub(crate) fn catch_up(&mut self) {
        self.seen = look(&self.files);
        self.told = self.seen;
    }
}

fn look(files: &[PathBuf; 2]) -> State {
    files.each_ref().map(|path| {
        let file = fs::metadata(path).ok()?;
        Some(Version {
            modified: file.modified().ok()?,
            length: file.len(),
            #[cfg(unix)]
            file: [file.dev(), file.ino()],
            #[cfg(unix)]
            changed: [file.ctime(), file.ctime_nsec()],
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_is_over() {
        let directory = env::temp_dir().join(format!("spdy-server-watch-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (chain, key) = (directory.join("chain"), directory.join("key"));
        fs::write(&chain, "1").unwrap();
        fs::write(&key, "1").unwrap();
        let certificate = Certificate::Files {
            chain: chain.clone(),
            key: key.clone(),
        };
        let mut watch = Watch::new(&certificate).unwrap();
        assert!(!watch.has_changed() && !watch.has_changed());

        fs::write(&chain, "22").unwrap();
        assert!(!watch.has_changed());
        fs::write(&key, "22").unwrap();
        assert!(!watch.has_changed());
        assert!(watch.has_changed());
        assert!(!watch.has_changed() && !watch.has_changed());

        fs::write(&key, "333").unwrap();
        watch.catch_up();
        assert!(!watch.has_changed() && !watch.has_changed());

        fs::remove_file(&key).unwrap();
        assert!(!watch.has_changed());
        assert!(watch.has_changed() && !watch.has_changed());
        fs::remove_dir_all(&directory).unwrap();
        assert!(Watch::new(&Certificate::SelfSigned).is_none());
    }
}
