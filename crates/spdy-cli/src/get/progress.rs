//! Progress bars on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The progress bars of all files, or `None` if they are not shown.
pub(super) struct Progress(Option<MultiProgress>);

impl Progress {
    /// Creates the bars. They are shown if they are `wanted` and standard error is a terminal.
    pub(super) fn new(wanted: bool) -> Self {
        let shown = wanted && io::stderr().is_terminal();
        Self(shown.then(MultiProgress::new))
    }

    /// Adds a bar for a body. Without a `length` it is a spinner.
    pub(super) fn bar(&self, name: &str, length: Option<u64>) -> ProgressBar {
        let Some(bars) = &self.0 else {
            return ProgressBar::hidden();
        };
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), BAR),
            None => (ProgressBar::new_spinner(), SPINNER),
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bars.add(bar.with_style(style).with_message(name.to_owned()))
    }

    /// Hides the bars while `write` writes to standard error.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        match &self.0 {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

const BAR: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const SPINNER: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";
