//! Unix sockets and their files.

use std::{
    fs::{self, Permissions},
    io, iter,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process,
};

use tokio::net::{UnixListener as Socket, UnixSocket, UnixStream};

use super::open::BACKLOG;
use crate::config::SocketFiles;

/// A listening Unix socket and its file.
#[derive(Debug)]
pub(super) struct UnixListener {
    socket: Socket,
    file: SocketFile,
}

impl UnixListener {
    /// Opens a socket at `path`. Replaces the file that a stopped server has left there, and with
    /// `shared` also the file of a running server. That server keeps its clients, and new ones come
    /// here.
    pub(super) fn bind(path: &Path, shared: bool, files: SocketFiles) -> io::Result<Self> {
        let socket = match open(path, files) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) => {
                if !shared && is_served(path) {
                    return Err(error);
                }
                replace(path, files)?
            }
            outcome => outcome?,
        };
        Ok(Self {
            socket,
            file: SocketFile {
                path: path.to_owned(),
                ours: identity(path).ok(),
            },
        })
    }

    /// Takes over a socket whose file belongs to another process.
    pub(super) fn inherited(socket: std::os::unix::net::UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = Socket::from_std(socket)?;
        let path = socket
            .local_addr()?
            .as_pathname()
            .unwrap_or_else(|| Path::new(""))
            .to_owned();
        Ok(Self {
            socket,
            file: SocketFile { path, ours: None },
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().await.map(|(io, _)| io)
    }

    /// Closes the socket when no connection waits to be accepted. Yields the connections that
    /// waited.
    pub(super) fn close(self) -> impl Iterator<Item = UnixStream> {
        let Self { socket, file } = self;
        let socket = socket.into_std().ok();
        iter::from_fn(move || {
            let _until_the_end = &file;
            let (io, _) = socket.as_ref()?.accept().ok()?;
            io.set_nonblocking(true).ok()?;
            UnixStream::from_std(io).ok()
        })
    }
}

/// The file of a socket. Dropping this removes the file, unless another process has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file that this process has created.
    ours: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.is_some() && identity(&self.path).ok() == self.ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a socket at `path`. Its file has the owner and the mode before the first client can
/// connect.
fn open(path: &Path, files: SocketFiles) -> io::Result<Socket> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    if let Err(error) = files.apply(path) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    socket.listen(BACKLOG)
}

impl SocketFiles {
    fn apply(self, path: &Path) -> io::Result<()> {
        let cannot = |what: &str, error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot set the {what} of the socket: {error}"),
            )
        };
        // A change of the owner can clear bits of the mode.
        if self.user.is_some() || self.group.is_some() {
            chown(path, self.user, self.group).map_err(|error| cannot("owner", error))?;
        }
        if let Some(mode) = self.mode {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(path, mode).map_err(|error| cannot("mode", error))?;
        }
        Ok(())
    }
}

/// Opens a socket beside `path` and moves its file there, so that there is a file at any time.
fn replace(path: &Path, files: SocketFiles) -> io::Result<Socket> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", process::id()));
    let socket = open(Path::new(&beside), files)?;
    if let Err(error) = fs::rename(&beside, path) {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    Ok(socket)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn is_served(path: &Path) -> bool {
    // A socket with a full queue belongs to a running server, too.
    std::os::unix::net::UnixStream::connect(path)
        .err()
        .is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
