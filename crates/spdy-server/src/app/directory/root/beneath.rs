//! Opening what is below a directory with `openat2`, which Linux has since 5.6. The kernel resolves
//! the path in one step, so nothing can be changed between a check and its use.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

/// Returns whether the kernel has the call, and lets this process use it: containers with old
/// filters do not.
pub(super) fn is_known_here(root: &Path) -> bool {
    let error = resolve(root, Path::new("."), OFlags::PATH).err();
    !matches!(error, Some(Errno::NOSYS | Errno::PERM))
}

pub(super) fn metadata(root: &Path, path: &Path) -> io::Result<Metadata> {
    resolve(root, path, OFlags::PATH)?.metadata()
}

pub(super) fn open(root: &Path, path: &Path) -> io::Result<File> {
    Ok(resolve(root, path, OFlags::NONBLOCK | OFlags::NOCTTY)?)
}

fn resolve(root: &Path, path: &Path, flags: OFlags) -> Result<File, Errno> {
    let in_place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, in_place, Mode::empty())?;
    let flags = flags | OFlags::CLOEXEC;
    let bounds = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(&root, path, flags, Mode::empty(), bounds).map(File::from)
}
