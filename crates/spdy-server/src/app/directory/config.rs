//! What can be set for a directory.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The configuration of a directory, with the limits of its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directory {
    /// The path of the directory. It can be a symbolic link, which is followed again at each check.
    pub path: PathBuf,
    /// Whether hidden files are served: those with a name, or below a directory with a name, that
    /// begins with a dot. Without this they are not found, apart from `/.well-known` ([RFC
    /// 8615](https://www.rfc-editor.org/rfc/rfc8615)). Only the names in a request count, not those
    /// that a symbolic link leads through.
    pub hidden: bool,
    /// Whether symbolic links are followed out of the directory. Without this a link that leads out
    /// of it is not found.
    pub follow_links: bool,
    /// Whether a directory without an `index.html` is listed. Without this it is not found. All
    /// responses share a list, which is kept in the cache, so `max_entries` cannot be 0.
    pub listing: bool,
    /// The maximum number of entries of a list, which also has no more bytes than `max_bytes`. A
    /// directory with more is listed in part, and the list ends with a note. At most four times as
    /// many names are looked at, whether they are served or not. Then the list ends in the same
    /// way.
    pub max_listed: usize,
    /// Whether compressed files are sent in place of the files that they are beside: `a.css.zst`,
    /// `a.css.br` or `a.css.gz` to a client that accepts zstd, Brotli or gzip and requests `a.css`.
    /// The compressed file can be requested by its own name as well.
    pub precompressed: bool,
    /// Whether text is sent in gzip to clients that accept it. A file is compressed when it is
    /// checked and has not changed for two seconds. The result is kept in the cache, so
    /// `max_entries` cannot be 0.
    pub compress: bool,
    /// The minimum length of a file that is compressed.
    pub min_compressed: usize,
    /// The maximum length of a file that is compressed.
    pub max_compressed: usize,
    /// The page for paths that are not found, by its path in the directory. It is sent with the
    /// status 404.
    pub not_found: Option<PathBuf>,
    /// The maximum number of files, directories and lists in the cache. The least recently used
    /// ones are removed. With 0 the disk is read for each request, and the other limits of the
    /// cache have no effect.
    pub max_entries: usize,
    /// The maximum number of bytes of files, of text in gzip and of lists in memory.
    pub max_bytes: usize,
    /// The maximum length of a file that is kept in memory. Such a file is read at once. Longer
    /// files are read in pieces of up to 128 KiB, or shorter ones if the client does not read that
    /// much. Two buffers of that length are kept for all responses.
    pub max_small: usize,
    /// The maximum number of longer files that are kept open. A deleted file uses disk space until
    /// it is closed. That happens at the next request after a minute without a request for the
    /// file.
    pub max_open: usize,
    /// The maximum number of longer files that are open together: those of `max_open`, and those
    /// that responses read. Each file counts once, and each of its states that a response still
    /// reads. A request for one more waits until a response ends, for 30 s at most, and then gets
    /// 503. Meanwhile no file is kept open without a response. A limit of 0 is one of 1.
    ///
    /// A file needs a descriptor as a connection does. The program allows a quarter of the
    /// descriptors that it has. An application with fewer than 2,048 should allow fewer than the
    /// default.
    pub max_handles: usize,
    /// The maximum number of bytes, beside `max_bytes`, of files, lists and text in gzip that have
    /// left the cache while responses use them. At the limit small files are read like longer ones,
    /// text is sent as it is, and a request for a list waits until a response ends, for 30 s at
    /// most, and then gets 503. Bytes are counted in KiB. It should be above `max_compressed`: that
    /// much is set aside for a text until the length of the result is known.
    pub max_lent: usize,
    /// How long the cached state of the disk is used. The server notices a change after this time
    /// at the latest, also that of a symbolic link.
    pub trust: Duration,
}

impl Directory {
    /// Returns a directory with the default limits: 1,024 entries, 16 MiB in files of up to 64 KiB,
    /// 64 open files, lists of 10,000 entries, and a second. Responses have 512 open files, and 64
    /// MiB that have left the cache. Files from 1 KiB to 4 MiB would be compressed. Hidden files,
    /// links out of the directory, lists and compression are off.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            hidden: false,
            follow_links: false,
            listing: false,
            max_listed: 10_000,
            precompressed: false,
            compress: false,
            min_compressed: 1 << 10,
            max_compressed: 4 << 20,
            not_found: None,
            max_entries: 1024,
            max_bytes: 16 << 20,
            max_small: 64 << 10,
            max_open: 64,
            max_handles: 512,
            max_lent: 64 << 20,
            trust: Duration::from_secs(1),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Directory {
    fn from(path: &P) -> Self {
        Self::new(path.as_ref())
    }
}

/// The error for a directory that cannot be served.
#[derive(Debug)]
pub struct DirectoryError {
    pub(super) directory: PathBuf,
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) enum Reason {
    /// It is not a directory, or cannot be read.
    Unreadable(io::Error),
    /// The page for 404 is not served.
    NoPage(PathBuf, io::Error),
    /// There is no place for lists and for what is compressed.
    NoCache,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        match &self.reason {
            Reason::Unreadable(_) => write!(f, "cannot serve the directory {directory}"),
            Reason::NoPage(page, _) => write!(
                f,
                "the page for 404, {}, must be a file that {directory} serves, such as 404.html",
                page.display()
            ),
            Reason::NoCache => write!(
                f,
                "lists and compressed files of {directory} need the cache: use a cache above 0, or \
                 neither of them"
            ),
        }
    }
}

impl Error for DirectoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            Reason::Unreadable(source) | Reason::NoPage(_, source) => Some(source),
            Reason::NoCache => None,
        }
    }
}
