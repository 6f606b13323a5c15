//! The one rule for what is served: which names, and how far symbolic links lead. All reading of
//! the disk goes through here.

#[cfg(target_os = "linux")]
mod beneath;
mod real;

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

use super::Directory;

/// The path of something below a directory, in names that are served. What is there may still be a
/// link that leads elsewhere, which [`Root`] finds out.
///
/// It is relative, and has neither `..` nor a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Below(PathBuf);

impl Below {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        self.names().next().is_none()
    }

    /// Returns the path as a client writes it, without a slash at the end.
    pub(super) fn shown(&self) -> String {
        let names = self.names().map(|name| format!("/{}", name.display()));
        names.collect()
    }

    fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
    }
}

/// A directory, and how it is entered.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    hidden: bool,
    way: Way,
}

/// How a path below the root is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Wherever links lead.
    Anywhere,
    /// By `openat2`, which never leaves the root.
    #[cfg(target_os = "linux")]
    Beneath,
    /// By the path without links, if it is below the root.
    Real,
}

impl Root {
    pub(super) fn new(directory: &Directory) -> Self {
        let way = match directory.follow_links {
            true => Way::Anywhere,
            #[cfg(target_os = "linux")]
            false if beneath::is_known_here(&directory.path) => Way::Beneath,
            false => Way::Real,
        };
        Self {
            path: directory.path.clone(),
            hidden: directory.hidden,
            way,
        }
    }

    /// Checks the names of a relative path.
    ///
    /// # Errors
    /// Hidden names are not found, and neither is a path that leads up.
    pub(super) fn below(&self, path: PathBuf) -> io::Result<Below> {
        let is_relative = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
        let below = Below(path);
        match is_relative && !has_nul && self.shows(&below) {
            true => Ok(below),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn shows(&self, below: &Below) -> bool {
        let first = below.names().next();
        let rest = below
            .names()
            .skip(usize::from(first.is_some_and(|it| it == WELL_KNOWN)));
        self.hidden
            || rest
                .map(OsStr::as_encoded_bytes)
                .all(|it| !it.starts_with(b"."))
    }

    /// Returns what is at a path. Nothing is opened for reading.
    ///
    /// # Errors
    /// Returns the error of the system. What is outside is not found.
    pub(super) fn metadata(&self, below: &Below) -> io::Result<Metadata> {
        let found = match self.way {
            Way::Anywhere => self.path.join(&below.0).metadata(),
            #[cfg(target_os = "linux")]
            Way::Beneath => beneath::metadata(&self.path, &below.0)
                .or_else(|error| self.real_instead(error)?.metadata(&below.0)),
            Way::Real => self.real().metadata(&below.0),
        };
        found.map_err(absent)
    }

    /// Opens a file or a directory for reading, without waiting for the writer of a pipe.
    ///
    /// # Errors
    /// The same as for [`metadata`](Self::metadata).
    pub(super) fn open(&self, below: &Below) -> io::Result<File> {
        let opened = match self.way {
            Way::Anywhere => open_without_waiting(&self.path.join(&below.0)),
            #[cfg(target_os = "linux")]
            Way::Beneath => beneath::open(&self.path, &below.0)
                .or_else(|error| self.real_instead(error)?.open(&below.0)),
            Way::Real => self.real().open(&below.0),
        };
        opened.map_err(absent)
    }

    /// Returns the names in a directory, in no order: `None` for one that is not served.
    ///
    /// # Errors
    /// The same as for [`metadata`](Self::metadata).
    pub(super) fn names(
        &self,
        below: &Below,
    ) -> io::Result<impl Iterator<Item = io::Result<Option<Below>>>> {
        let names = self.all_names(below)?;
        Ok(names.map(move |name| {
            let path = name.map(|name| below.0.join(name));
            path.map(|path| self.below(path).ok())
        }))
    }

    #[cfg(unix)]
    fn all_names(
        &self,
        below: &Below,
    ) -> io::Result<impl Iterator<Item = io::Result<std::ffi::OsString>> + use<>> {
        use std::os::unix::ffi::OsStrExt;

        let entries = rustix::fs::Dir::new(self.open(below)?)?;
        let names = entries.map(|entry| -> io::Result<_> {
            let name = entry?;
            Ok(OsStr::from_bytes(name.file_name().to_bytes()).to_owned())
        });
        Ok(names.filter(|name| !matches!(name, Ok(name) if name == "." || name == "..")))
    }

    #[cfg(not(unix))]
    fn all_names(
        &self,
        below: &Below,
    ) -> io::Result<impl Iterator<Item = io::Result<std::ffi::OsString>> + use<>> {
        let path = match self.way {
            Way::Anywhere => self.path.join(&below.0),
            Way::Real => self.real().path(&below.0)?,
        };
        let entries = std::fs::read_dir(path)?;
        Ok(entries.map(|entry| Ok(entry?.file_name())))
    }

    fn real(&self) -> real::Real<'_> {
        real::Real(self)
    }

    /// A link with an absolute path may lead into the directory, but `openat2` refuses all of them.
    /// It also gives up while directories are moved, anywhere in the system.
    #[cfg(target_os = "linux")]
    fn real_instead(&self, error: io::Error) -> io::Result<real::Real<'_>> {
        match error.kind() {
            io::ErrorKind::CrossesDevices | io::ErrorKind::WouldBlock => Ok(self.real()),
            _ => Err(error),
        }
    }
}

/// The directory for what is the same on all sites, such as the challenges of ACME.
const WELL_KNOWN: &str = ".well-known";

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    options.read(true).open(path)
}

/// Converts the error for what no request can name, or for what is outside, to the error for a
/// missing file.
fn absent(error: io::Error) -> io::Error {
    use io::ErrorKind::{CrossesDevices, InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match error.kind() {
        CrossesDevices | InvalidFilename | InvalidInput | NotADirectory => NotFound.into(),
        _ if error.raw_os_error() == Some(ELOOP) => NotFound.into(),
        _ => error,
    }
}

/// Too many symbolic links: `std` has no stable name for this kind of error. Linux has its own
/// number for it.
const ELOOP: i32 = match cfg!(any(target_os = "linux", target_os = "android")) {
    true => 40,
    false => 62,
};

#[cfg(all(test, unix))]
mod tests;
