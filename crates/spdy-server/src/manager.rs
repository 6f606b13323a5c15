//! What the program tells the service manager that started it, by the protocol of systemd
//! ([`sd_notify(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)).
//! Without a manager that wants to know, nothing is sent. A manager that does not read is not
//! waited for.

use std::{env, io, process, time::Duration};
#[cfg(unix)]
use std::{ffi::OsStr, os::unix::net::SocketAddr};

use tokio::{task, time};

/// Sends that the server listens. If the manager watches (`WatchdogSec=`), a task of this runtime
/// then sends that the server is alive, until the runtime ends.
pub(crate) fn ready() {
    tell("READY=1");
    if let Some(limit) = watchdog() {
        task::spawn(async move {
            // Twice as often as needed, as `sd_watchdog_enabled(3)` recommends.
            let mut interval = time::interval((limit / 2).max(SHORTEST));
            loop {
                interval.tick().await;
                tell("WATCHDOG=1");
            }
        });
    }
}

/// Sends that the server stops, when it begins to drain.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

/// The shortest time between two messages.
const SHORTEST: Duration = Duration::from_millis(10);

fn tell(state: &str) {
    if let Err(error) = send(state) {
        tracing::warn!("cannot send {state} to the service manager: {error}");
    }
}

#[cfg(unix)]
fn send(state: &str) -> io::Result<()> {
    use std::os::unix::net::UnixDatagram;

    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address(&path)?)?;
    Ok(())
}

/// The address of a socket in the file system or, on Linux, of one without a file: `@NAME`.
#[cfg(unix)]
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

#[cfg(not(unix))]
fn send(_: &str) -> io::Result<()> {
    Ok(())
}

/// The time without a message after which the manager takes the server for dead, if it watches this
/// process.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse().ok();
    let other = number("WATCHDOG_PID").is_some_and(|watched| watched != u64::from(process::id()));
    let limit = number("WATCHDOG_USEC").filter(|_| !other)?;
    Some(Duration::from_micros(limit))
}
