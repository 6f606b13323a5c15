//! The file of a socket on Linux.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

/// The file of a socket, whatever becomes of its path.
pub(super) struct File(fs::File);

impl File {
    /// Opens the file without following a link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::File::from(open(path, flags, Mode::empty())?);
        let found = file.metadata()?;
        // A second link would be the name of a socket of another process.
        match found.file_type().is_socket() && found.nlink() == 1 {
            true => Ok(Self(file)),
            false => Err(super::not_the_socket()),
        }
    }

    pub(super) fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        chown(self.path(), user, group)
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.path(), Permissions::from_mode(mode))
    }

    /// Returns the path that leads to this very file. Such a descriptor takes no mode itself.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
