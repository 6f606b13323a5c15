//! Ctrl-C, and the last moment of a command: it ends in order, with what it has.

use std::{future::pending, pin::pin, process, sync::mpsc, thread, time::Duration};

use futures_util::future::poll_immediate;
use tokio::{
    runtime::Builder,
    signal::ctrl_c,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use crate::failure::{Exit, note};

/// The wish of the user that the command ends.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for Ctrl-C from now on.
    ///
    /// It has a thread of its own, because the command may wait for a standard output that is not
    /// read. If the command does not end within a second, or at a second Ctrl-C, the thread ends
    /// the process.
    pub(crate) fn listen() -> Self {
        Self::listen_until(None)
    }

    /// The same, and the thread ends the process too if the command has not ended a second after
    /// its last moment.
    pub(crate) fn listen_until(last: Option<Last>) -> Self {
        let (told, heard) = watch::channel(false);
        let (ready, listening) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            // Without a runtime or a signal handler, Ctrl-C ends the process as usual.
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                tokio::select! {
                    () = end_at_ctrl_c(told, ready) => {}
                    () = end_after(last) => {}
                }
            });
        });
        // It fails when the sender is dropped, which tells as much.
        _ = listening.recv();
        Self(heard)
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn heard(&self) {
        let mut heard = self.0.clone();
        if heard.wait_for(|&told| told).await.is_err() {
            pending().await
        }
    }
}

/// The last moment of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) at: Instant,
    /// Whether a message says why the command ends.
    pub(crate) is_loud: bool,
}

/// Ends the process a while after Ctrl-C. Drops `ready` when it listens.
async fn end_at_ctrl_c(told: watch::Sender<bool>, ready: mpsc::Sender<()>) {
    let mut first = pin!(ctrl_c());
    // The first poll sets the handler of the signal.
    let early = poll_immediate(first.as_mut()).await;
    drop(ready);
    let outcome = match early {
        Some(outcome) => outcome,
        None => first.await,
    };
    if outcome.is_err() {
        return pending().await;
    }
    told.send_replace(true);
    _ = timeout(GRACE, ctrl_c()).await;
    process::exit(Exit::Interrupted as i32);
}

/// Ends the process a while after the last moment of the command, if there is one.
async fn end_after(last: Option<Last>) {
    let Some(last) = last else {
        return pending().await;
    };
    sleep_until(last.at + GRACE).await;
    if last.is_loud {
        // Standard error might not be read either.
        let told = spawn_blocking(|| note(TIMED_OUT));
        _ = timeout(GRACE, told).await;
    }
    process::exit(Exit::Exchange as i32);
}

/// The reason of a failure at the last moment.
pub(crate) const TIMED_OUT: &str = "timed out by --max-time";

/// How long a command has to write what it has.
const GRACE: Duration = Duration::from_secs(1);
