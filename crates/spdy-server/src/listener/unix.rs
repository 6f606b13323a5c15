//! Unix sockets and their files.

#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    path = "unix/linux.rs"
)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "unix/other.rs"
)]
mod file;

use std::{
    fs, io, iter,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process,
};

use socket2::{Domain, SockAddr, Type};
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

    /// Yields the connections that wait to be accepted. Then closes the socket.
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
    /// Sets the owner and the mode of the socket at `path`.
    ///
    /// Others may be able to write to the directory, and put something else there meanwhile. So no
    /// link is followed.
    fn apply(self, path: &Path) -> io::Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        let cannot = |what: &str, error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot set the {what} of the socket: {error}"),
            )
        };
        let file = file::File::open(path).map_err(|error| cannot("owner and the mode", error))?;
        // A change of the owner can clear bits of the mode.
        if self.user.is_some() || self.group.is_some() {
            file.set_owner(self.user, self.group)
                .map_err(|error| cannot("owner", error))?;
        }
        if let Some(mode) = self.mode {
            file.set_mode(mode).map_err(|error| cannot("mode", error))?;
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

/// Returns at once. A socket with a full queue belongs to a running server, too: a client that
/// waits would wait for a place in it.
fn is_served(path: &Path) -> bool {
    let connect = || {
        let client = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        client.connect(&SockAddr::unix(path)?)
    };
    connect()
        .err()
        .is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused)
}

fn not_the_socket() -> io::Error {
    io::Error::other("what is at its path now is not the socket that was opened")
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::fs::{PermissionsExt, symlink},
        sync::mpsc,
        thread,
        time::Duration,
    };

    use super::*;

    /// A new directory of this name.
    fn directory(name: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("spdy-{name}-{}", process::id()));
        fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn the_mode_and_the_owner_of_a_socket_go_to_nothing_else() {
        let directory = directory("files");
        let (link, second) = (directory.join("link"), directory.join("second"));
        let (target, socket) = (directory.join("target"), directory.join("socket"));
        fs::write(&target, "precious").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let owner = fs::metadata(&target).unwrap();
        for files in [
            SocketFiles {
                mode: Some(0o666),
                ..SocketFiles::default()
            },
            SocketFiles {
                user: Some(owner.uid()),
                group: Some(owner.gid()),
                ..SocketFiles::default()
            },
        ] {
            assert!(files.apply(&target).is_err());
            for to in [&target, &socket] {
                symlink(to, &link).unwrap();
                let error = files.apply(&link).unwrap_err().to_string();
                assert!(error.contains("not the socket"), "{error}");
                assert_eq!(mode(to), 0o600);
                fs::remove_file(&link).unwrap();
            }
            // The same socket by another name might be that of another process.
            fs::hard_link(&socket, &second).unwrap();
            assert!(files.apply(&second).is_err());
            fs::remove_file(&second).unwrap();
            assert_eq!(mode(&socket), 0o600);
            files.apply(&socket).unwrap();
            assert_eq!(mode(&socket), files.mode.unwrap_or(0o600));
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_whose_queue_is_full_is_known_to_be_served_without_a_wait() {
        let directory = directory("queue");
        let path = directory.join("socket");
        let address = SockAddr::unix(&path).unwrap();
        let stream = || socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let server = stream();
        server.bind(&address).unwrap();
        assert!(!is_served(&path), "it does not listen yet");
        server.listen(0).unwrap();
        let clients: Vec<_> = (0..4).map(|_| stream()).collect();
        let is_full = clients.iter().any(|client| {
            client.set_nonblocking(true).unwrap();
            client.connect(&address).is_err()
        });
        assert!(is_full);
        let (tell, told) = mpsc::channel();
        let asked = path.clone();
        thread::spawn(move || tell.send(is_served(&asked)));
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
        drop(server);
        assert!(!is_served(&path), "the server has ended");
        fs::remove_dir_all(&directory).unwrap();
    }
}
