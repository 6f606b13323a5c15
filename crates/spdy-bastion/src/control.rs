//! The socket on which live sessions are listed and ended.
//!
//! Only the owner of the socket can connect to it. A request is a line of JSON, and so are the
//! answers:
//!
//! ```text
//! {"sessions":{}}                        one line for each session, and then {"ok":true}
//! {"kill":{"id":"…","message":"…"}}      {"ok":true}, or {"ok":false,"error":"…"}
//! ```

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    Error,
    audit::printable,
    live::{Sessions, random_id},
};

/// A request on the socket.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    Sessions {},
    Kill { id: String, message: String },
}

/// The socket. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Creates the socket. A socket on which no process listens is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::because(format!("cannot listen on {}", path.display()), error);
        let listener = bind(path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves requests. Never returns.
    pub(crate) async fn run(self, sessions: Arc<Sessions>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let Ok((socket, _)) = self.listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move {
                let served = timeout(LIMIT, serve(socket, &sessions)).await;
                if !matches!(served, Ok(Ok(()))) {
                    tracing::debug!("request on the socket has failed");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}

/// Binds a socket that only its owner can use from its first moment: it is made in a folder that no
/// other user can enter, and then moved to its place.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is another file",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another bastion is running",
            ));
        }
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent
        .unwrap_or_else(|| Path::new("."))
        .join(format!(".spdy-bastion-{}", random_id()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let inner = folder.join("s");
    let bound = UnixListener::bind(&inner).and_then(|listener| {
        fs::set_permissions(&inner, Permissions::from_mode(0o600))?;
        fs::rename(&inner, path)?;
        Ok(listener)
    });
    _ = fs::remove_file(&inner);
    _ = fs::remove_dir(&folder);
    bound
}

async fn serve(socket: UnixStream, sessions: &Sessions) -> io::Result<()> {
    let (reader, mut writer) = socket.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LONGEST))
        .read_line(&mut line)
        .await?;
    let mut text = String::new();
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Sessions {}) => {
            for session in sessions.list() {
                text += &format!("{}\n", Value::Object(session));
            }
            json!({"ok": true})
        }
        Ok(Request::Kill { id, message }) => {
            tracing::info!(id, why = message, "session is ended by order");
            match sessions.end(&id, &message) {
                true => json!({"ok": true}),
                false => json!({"ok": false, "error": "there is no such session"}),
            }
        }
        Err(error) => json!({"ok": false, "error": error.to_string()}),
    };
    text += &format!("{answer}\n");
    writer.write_all(text.as_bytes()).await?;
    writer.shutdown().await
}

/// Asks the bastion behind a socket. Returns its answers without the last one.
async fn ask(path: &Path, request: &Request) -> Result<Vec<Value>, Error> {
    let asked = async {
        let socket = UnixStream::connect(path).await?;
        let (reader, mut writer) = socket.into_split();
        let request = serde_json::to_string(request)?;
        writer.write_all(format!("{request}\n").as_bytes()).await?;
        let mut text = String::new();
        BufReader::new(reader).read_to_string(&mut text).await?;
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        lines.map_err(io::Error::from)
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "bastion does not answer in time");
    let failed = |error| Error::because(format!("cannot ask {}", path.display()), error);
    let answers = timeout(ANSWER, asked).await;
    let mut lines = answers
        .map_err(late)
        .and_then(|answers| answers)
        .map_err(failed)?;
    match lines.pop() {
        Some(last) if last["ok"] == true => Ok(lines),
        Some(last) => Err(Error::new(
            last["error"].as_str().unwrap_or("request has failed"),
        )),
        None => Err(Error::new("bastion does not answer")),
    }
}

/// Returns the live sessions of the bastion behind a socket, the oldest first, each as a JSON
/// object with the fields of its audit line.
///
/// # Errors
///
/// No bastion listens on the socket, or this user must not use it.
pub async fn sessions(socket: &Path) -> Result<Vec<Value>, Error> {
    ask(socket, &Request::Sessions {}).await
}

/// Ends a live session of the bastion behind a socket. Its client gets the message; the client of a
/// port-forward only loses its connection, because that protocol has no place for a message.
///
/// # Errors
///
/// There is no such session, or no bastion listens on the socket, or this user must not use it.
pub async fn kill(socket: &Path, id: &str, message: &str) -> Result<(), Error> {
    let request = Request::Kill {
        id: id.to_owned(),
        message: message.to_owned(),
    };
    ask(socket, &request).await.map(drop)
}

/// Returns an object in a line of JSON that cannot control a terminal: it has only ASCII.
#[must_use]
pub fn line(object: &Value) -> String {
    printable(&object.to_string())
}

/// How long a bastion may take to answer. It serves silent connections first, for [`LIMIT`] each.
const ANSWER: Duration = Duration::from_secs(30);

/// How many connections the socket serves at once.
const CONNECTIONS: usize = 16;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest request, in bytes.
const LONGEST: u64 = 64 * 1024;

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Line;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("spdy-bastion-{name}-{}", std::process::id()))
    }

    #[tokio::test]
    async fn sessions_are_listed_and_ended() {
        let all = Sessions::new(2);
        let mut about = Line::new();
        about.insert("user".into(), "alice".into());
        let place = all.begin(about, crate::cut::Cut::new()).unwrap();
        let path = path("control");
        let control = Control::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Control::bind(&path).unwrap_err();
        let source = std::error::Error::source(&again).unwrap().to_string();
        assert_eq!(source, "another bastion is running");
        let running = tokio::spawn(control.run(Arc::clone(&all)));

        let listed = sessions(&path).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0]["user"], &listed[0]["bytes_in"]),
            (&"alice".into(), &0.into())
        );
        let id = listed[0]["session"].as_str().unwrap();
        kill(&path, id, "no more\n\u{1b}").await.unwrap();
        assert_eq!(place.live.ended_with().as_deref(), Some("no more\n\u{1b}"));
        let error = kill(&path, "x", "a").await.unwrap_err().to_string();
        assert_eq!(error, "there is no such session");

        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(b"{\"stop\":{}}\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("{\"error\":\"unknown variant `stop`"),
            "{answer}"
        );

        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_request_on_the_socket_has_limits() {
        let path = path("limits");
        let running = Control::bind(&path).unwrap().run(Sessions::new(1));
        let running = tokio::spawn(running);
        // Silent connections take all places, until their time is over.
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        assert_eq!(sessions(&path).await.unwrap(), Vec::<Value>::new());
        for mut socket in silent {
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        }

        // A request without an end is read to the limit, and then answered.
        let mut long = "{\"kill\":{\"id\":\"a\",\"message\":\"".to_owned();
        long += &"x".repeat(usize::try_from(LONGEST).unwrap() - long.len());
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(long.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("EOF while parsing"), "{answer}");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_bastion_that_does_not_answer_is_not_waited_for() {
        let path = path("silent");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let asked = timeout(2 * ANSWER, sessions(&path)).await;
        let error = asked.expect("error comes in time").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "bastion does not answer in time");
        drop(listener);
        fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_another_file_is_not() {
        let path = path("left");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Control::bind(&path).unwrap());
        fs::write(&path, "a file").unwrap();
        assert!(Control::bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a file");
        fs::remove_file(&path).unwrap();
    }
}
