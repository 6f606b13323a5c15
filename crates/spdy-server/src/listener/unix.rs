//! Unix sockets, and the files that stand for them.

use std::{
    fs, io, iter,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process,
};

use tokio::net::{UnixListener as Socket, UnixStream};

/// A Unix socket that listens, and its file.
#[derive(Debug)]
pub(super) struct UnixListener {
    socket: Socket,
    file: SocketFile,
}

impl UnixListener {
    /// Opens a socket at `path`. A file that a server has left behind there is replaced, and so, if `shared`, is the
    /// file of a server that is still running: it keeps the clients it has, and new ones come here.
    pub(super) fn bind(path: &Path, shared: bool) -> io::Result<Self> {
        let socket = match Socket::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) => {
                if !shared && is_served(path) {
                    return Err(error);
                }
                replace(path)?
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

    /// Takes over a socket whose file is somebody else's.
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

    /// Closes the socket once nobody waits for being accepted; yields those who did.
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

/// The file of a socket. It is removed when this is dropped, unless another process has put its own in that place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number of the file that is ours to remove.
    ours: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.is_some() && identity(&self.path).ok() == self.ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a socket beside `path` and moves its file there, so that at no time there is none.
fn replace(path: &Path) -> io::Result<Socket> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", process::id()));
    let socket = Socket::bind(&beside)?;
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
    // A socket that takes no more connections is a socket somebody has.
    std::os::unix::net::UnixStream::connect(path)
        .err()
        .is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
