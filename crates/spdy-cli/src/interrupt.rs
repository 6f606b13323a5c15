//! Ctrl-C: the command ends in order, with what it has.

use std::{process, thread, time::Duration};

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
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            // Without a runtime or a signal handler, Ctrl-C ends the process as usual.
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                if ctrl_c().await.is_err() {
                    return;
                }
                told.send_replace(true);
                _ = timeout(GRACE, ctrl_c()).await;
                process::exit(Exit::Interrupted as i32);
            });
        });
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
