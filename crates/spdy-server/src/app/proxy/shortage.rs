//! What this machine lacks for another connection. It says nothing of the address.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether connections to an application cannot be opened for want of something.
#[derive(Debug, Default)]
pub(super) struct Shortage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the log has a line since a connection was opened.
    is_told: bool,
    /// When the last line was written.
    last: Option<Instant>,
}

impl Shortage {
    /// Notes that something is wanting. Returns whether it has to be logged: it was not since a
    /// connection was opened, nor within [`QUIET`], because connections open and fail in turn at a
    /// limit.
    pub(super) fn begins(&self) -> bool {
        let mut state = self.lock();
        let is_news = !state.is_told && state.last.is_none_or(|last| last.elapsed() >= QUIET);
        if is_news {
            (state.is_told, state.last) = (true, Some(Instant::now()));
        }
        is_news
    }

    /// Notes that a connection was opened.
    pub(super) fn ends(&self) {
        self.lock().is_told = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what to do if it is this machine that lacks something for a connection.
pub(super) fn cure(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => Some(
            "no local port is free, or there is no local address of this kind; allow more ports, \
             or use more addresses of the application",
        ),
        _ => cure_of_system(error),
    }
}

#[cfg(unix)]
fn cure_of_system(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;

    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(
            "raise the limit of file descriptors (`LimitNOFILE=` of systemd, `ulimit -n`), or \
             lower the numbers of connections",
        ),
        Errno::NFILE => Some("raise the number of files that the system can have open"),
        Errno::NOBUFS | Errno::NOMEM => Some("the system has no memory left for sockets"),
        _ => None,
    }
}

#[cfg(not(unix))]
fn cure_of_system(_: &io::Error) -> Option<&'static str> {
    None
}

/// How long no second line is in the log, however often something is wanting.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_the_system_says_of_this_machine_has_a_cure() {
        use rustix::io::Errno;

        for (errno, is_short) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ] {
            assert_eq!(cure(&errno.into()).is_some(), is_short, "{errno}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_told_once_until_a_connection_opens_and_once_in_a_minute() {
        let shortage = Shortage::default();
        let told = |shortage: &Shortage| (0..10).filter(|_| shortage.begins()).count();
        assert_eq!(told(&shortage), 1);
        advance(2 * QUIET).await;
        assert_eq!(told(&shortage), 0, "no connection was opened");
        shortage.ends();
        assert_eq!(told(&shortage), 1);
        // Connections open and fail in turn.
        for _ in 0..10 {
            shortage.ends();
            assert_eq!(told(&shortage), 0);
        }
        // The last one goes on.
        advance(QUIET).await;
        assert_eq!(told(&shortage), 1);
    }
}
