//! The file of a socket on systems that change the mode of a link itself.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, lchown},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, RawMode, chmodat};

/// The path of a socket.
pub(super) struct File(PathBuf);

impl File {
    /// Notes the path if a socket is there. What follows does not follow a link either.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        match found.file_type().is_socket() && found.nlink() == 1 {
            true => Ok(Self(path.to_owned())),
            false => Err(super::not_the_socket()),
        }
    }

    pub(super) fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        lchown(&self.0, user, group)
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode as RawMode);
        Ok(chmodat(CWD, &self.0, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}
