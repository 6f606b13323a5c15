//! The flags of the directory.

use std::path::{Component, Path, PathBuf};

use clap::Args;
use spdy_server::app::Directory;

// A doc comment here would become the description of the program.
#[derive(Debug, Args)]
pub(super) struct Folder {
    /// Directory to serve; by default, the built-in site
    ///
    /// A request for a directory returns its index.html. Hidden files are not found, and neither is
    /// what a symbolic link leads to outside of DIR.
    #[arg(value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,

    /// Serve hidden files, whose names begin with a dot
    ///
    /// Without it, neither they nor the files below a hidden directory are found, apart from
    /// /.well-known.
    #[arg(long, requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY)]
    hidden: bool,

    /// Follow symbolic links that lead out of the directory
    ///
    /// Links that stay inside are always followed.
    #[arg(long, requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY)]
    follow_links: bool,

    /// List directories without an index.html
    ///
    /// The list can be sorted by name, size and time. It has 10,000 entries at most, and no file
    /// that is not served.
    #[arg(long, requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY)]
    listing: bool,

    /// Send a.css.zst, a.css.br or a.css.gz for a.css to clients that accept it
    ///
    /// The compressed files are beside the others, and must be made again when those change.
    #[arg(long, requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY)]
    precompressed: bool,

    /// Send text of 1 KiB to 4 MiB in gzip to clients that accept it
    ///
    /// A file is compressed once, and the result is kept in the file cache. Files that
    /// --precompressed finds are sent as they are. Do not use it for files that contain a secret
    /// next to text that an attacker chooses: the length of the result tells about both (BREACH).
    #[arg(long, requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY)]
    compress: bool,

    /// Send this file of the directory, with status 404, for what is not found
    #[arg(long, value_name = "FILE", requires = "directory", conflicts_with = "proxy", help_heading = DIRECTORY, value_parser = page)]
    not_found: Option<PathBuf>,

    /// MiB of memory for the small files of a directory; 0 reads the disk for each request
    ///
    /// The cache holds files of up to 64 KiB, what --compress makes, and the metadata of 1,024
    /// files and directories, of which 64 are open. It notices a change on disk after one second.
    #[arg(
        long,
        value_name = "MIB",
        default_value = "16",
        requires = "directory",
        conflicts_with = "proxy", help_heading = DIRECTORY
    )]
    file_cache: u16,
}

const DIRECTORY: &str = "Directory";

impl Folder {
    pub(super) fn directory(&self) -> Option<Directory> {
        let mut directory = Directory::new(self.directory.as_ref()?);
        directory.hidden = self.hidden;
        directory.follow_links = self.follow_links;
        directory.listing = self.listing;
        directory.precompressed = self.precompressed;
        directory.compress = self.compress;
        directory.not_found = self.not_found.clone();
        directory.max_bytes = usize::from(self.file_cache) << 20;
        if self.file_cache == 0 {
            directory.max_entries = 0;
        }
        Some(directory)
    }
}

/// Accepts the path of a file below the directory.
fn page(text: &str) -> Result<PathBuf, &'static str> {
    let mut parts = Path::new(text).components().peekable();
    let is_below = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    match is_below {
        true => Ok(text.into()),
        false => Err("name a file by its path in DIR, such as 404.html"),
    }
}
