//! Ctrl-C: the command ends in order, with what it has.

use std::{pin::pin, process, sync::mpsc, thread, time::Duration};

use futures_util::future::poll_immediate;
use tokio::{runtime::Builder, signal::ctrl_c, sync::watch, time::timeout};

use crate::failure::Exit;

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
        let (told, heard) = watch::channel(false);
        let (ready, listening) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            // Without a runtime or a signal handler, Ctrl-C ends the process as usual.
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let mut first = pin!(ctrl_c());
                // The first poll sets the handler of the signal.
                let outcome = match poll_immediate(first.as_mut()).await {
                    Some(outcome) => outcome,
                    None => {
                        _ = ready.send(());
                        first.await
                    }
                };
                if outcome.is_err() {
                    return;
                }
                told.send_replace(true);
                _ = timeout(GRACE, ctrl_c()).await;
                process::exit(Exit::Interrupted as i32);
            });
        });
        // An error means that there is no handler.
        _ = listening.recv();
        Self(heard)
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn heard(&self) {
        let mut heard = self.0.clone();
        if heard.wait_for(|&told| told).await.is_err() {
            std::future::pending().await
        }
    }
}

/// How long a command has to write what it has.
const GRACE: Duration = Duration::from_secs(1);
