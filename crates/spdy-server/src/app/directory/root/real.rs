//! The same where there is no `openat2`, and for links with absolute paths: the path without links
//! is found first, and then opened step by step, so that no link is followed which took the place
//! of a directory meanwhile.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use super::{Below, Root};

#[derive(Debug)]
pub(super) struct Real<'a>(pub(super) &'a Root);

impl Real<'_> {
    /// # Errors
    /// The same as for [`open`](Self::open). Neither a pipe nor a device is opened.
    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        twice(|| {
            let (root, below) = self.find(path)?;
            let there = fs::symlink_metadata(root.join(&below))?;
            match there.is_file() || there.is_dir() {
                true => open(&root, &below, Use::Look)?.metadata(),
                false => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }

    /// # Errors
    /// Returns the error of the system. What is outside is not found.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        twice(|| {
            let (root, below) = self.find(path)?;
            open(&root, &below, Use::Read)
        })
    }

    #[cfg(not(unix))]
    pub(super) fn path(&self, path: &Path) -> io::Result<PathBuf> {
        let (root, below) = self.find(path)?;
        Ok(root.join(below))
    }

    /// Returns the root, and the path below it, both without links.
    fn find(&self, path: &Path) -> io::Result<(PathBuf, PathBuf)> {
        let root = fs::canonicalize(&self.0.path)?;
        let real = fs::canonicalize(self.0.path.join(path))?;
        let Ok(below) = real.strip_prefix(&root) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let below = below.to_owned();
        // Elsewhere several names can mean one file, such as the short names of Windows.
        if !cfg!(target_os = "linux") && !self.0.shows(&Below(below.clone())) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((root, below))
    }
}

/// Tries again once: a link that is replaced between two steps does not make its file missing.
fn twice<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    attempt().or_else(|_| attempt())
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Look,
    Read,
}

#[cfg(unix)]
fn open(root: &Path, below: &Path, to: Use) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};

    // Linux can pass through a directory, or look at a file, that it cannot read.
    #[cfg(target_os = "linux")]
    let in_place = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let in_place = OFlags::NONBLOCK;
    let last = match to {
        Use::Look => in_place,
        Use::Read => OFlags::NONBLOCK | OFlags::NOCTTY,
    };
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = File::open(root)?;
    let mut steps = below.components().peekable();
    while let Some(step) = steps.next() {
        let flags = match steps.peek() {
            Some(_) => in_place | OFlags::DIRECTORY,
            None => last,
        };
        let next = openat(&opened, step.as_os_str(), flags | always, Mode::empty())?;
        opened = File::from(next);
    }
    Ok(opened)
}

/// Between the check and this call a directory can be replaced by a link.
#[cfg(not(unix))]
fn open(root: &Path, below: &Path, _: Use) -> io::Result<File> {
    File::open(root.join(below))
}
