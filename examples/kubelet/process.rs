//! Commands as processes of this machine.

use std::{io, process::Stdio};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    termios::{Winsize, tcsetwinsize},
};
use spdy_kube::{BoxError, Exit, Io, Resize};
use tokio::{
    io::{AsyncRead, AsyncWrite, Empty},
    process::{Child, Command},
    runtime::Handle,
};

/// Runs a command to its end, in a process group of its own. When the client goes the group is hung
/// up; when this future is dropped it is killed.
pub(crate) async fn run(command: Vec<String>, io: Io) -> Result<Exit, BoxError> {
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    let result = if io.tty {
        run_on_terminal(program, arguments, io).await
    } else {
        run_on_pipes(program, arguments, io).await
    };
    result.map_err(|error| format!("exec: {program:?}: {error}").into())
}

async fn run_on_pipes(program: &str, arguments: &[String], mut io: Io) -> Result<Exit, BoxError> {
    let pipe = |is_wanted| match is_wanted {
        true => Stdio::piped(),
        false => Stdio::null(),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(pipe(io.stdin.is_some()))
        .stdout(pipe(io.stdout.is_some()))
        .stderr(pipe(io.stderr.is_some()))
        .process_group(0)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut group = Group::new(child);
    Ok(group.attend(&mut io, stdin, stdout, stderr).await?)
}

async fn run_on_terminal(
    program: &str,
    arguments: &[String],
    mut io: Io,
) -> Result<Exit, BoxError> {
    let (pty, pts) = pty_process::open()?;
    let terminal = std::os::fd::AsFd::as_fd(&pty).try_clone_to_owned()?;
    let mut resize = io.resize.take();
    // Programs look at the size when they start. It is the first thing that the client tells.
    if let Some(resize) = &mut resize {
        let first = tokio::time::timeout(FIRST_SIZE, resize.next()).await;
        if let Ok(Some(size)) = first {
            set_size(&terminal, size);
        }
    }
    let child = pty_process::Command::new(program)
        .args(arguments)
        .env("TERM", "xterm")
        .spawn(pts)?;
    let mut group = Group::new(child);
    let (output, input) = pty.into_split();
    tokio::select! {
        exit = group.attend(&mut io, Some(input), Some(output), None::<Empty>) => Ok(exit?),
        never = follow(resize, &terminal) => match never {},
    }
}

/// Sets the size of the terminal to that of the client's.
async fn follow(
    resize: Option<Resize>,
    terminal: &std::os::fd::OwnedFd,
) -> std::convert::Infallible {
    if let Some(mut resize) = resize {
        while let Some(size) = resize.next().await {
            set_size(terminal, size);
        }
    }
    std::future::pending().await
}

fn set_size(terminal: &std::os::fd::OwnedFd, size: spdy_kube::Size) {
    let size = Winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    if let Err(error) = tcsetwinsize(terminal, size) {
        eprintln!("terminal was not resized: {error}");
    }
}

/// A process with those it has started.
struct Group {
    /// There until the group is dropped.
    leader: Option<Child>,
    id: Option<Pid>,
}

impl Group {
    /// The group of a process that leads one.
    fn new(leader: Child) -> Self {
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
            leader: Some(leader),
        }
    }

    /// Copies the streams, and waits for the end of the outputs and of the process.
    async fn attend(
        &mut self,
        io: &mut Io,
        stdin: Option<impl AsyncWrite + Unpin>,
        stdout: Option<impl AsyncRead + Unpin>,
        stderr: Option<impl AsyncRead + Unpin>,
    ) -> io::Result<Exit> {
        let id = self.id;
        let mut client = io.client.clone();
        let leader = self.leader.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let end = io.run(stdin, stdout, stderr, leader.wait());
        let mut end = std::pin::pin!(end);
        let status = tokio::select! {
            status = &mut end => status?,
            () = client.gone() => {
                signal(id, Signal::HUP);
                end.await?
            }
        };
        // Those that are left have closed the outputs, or had their time: they are meant to stay.
        self.id = None;
        Ok(status.into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal(self.id, Signal::KILL);
        // The process must be waited for, or the system remembers it for ever.
        if let (Some(mut leader), Ok(runtime)) = (self.leader.take(), Handle::try_current()) {
            runtime.spawn(async move { leader.wait().await });
        }
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may have ended by itself.
        _ = kill_process_group(group, signal);
    }
}

/// So long a command waits for the size of its terminal.
const FIRST_SIZE: std::time::Duration = std::time::Duration::from_millis(500);
