//! Bars on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars of all files, if there is somebody to see them.
pub(super) struct Progress(Option<MultiProgress>);

impl Progress {
    /// `wanted`: bodies go to files, and nothing else is to be said.
    pub(super) fn new(wanted: bool) -> Self {
        let shown = wanted && io::stderr().is_terminal();
        Self(shown.then(MultiProgress::new))
    }

    /// A bar for a body, whose length may be unknown.
    pub(super) fn bar(&self, name: &str, length: Option<u64>) -> ProgressBar {
        let Some(bars) = &self.0 else {
            return ProgressBar::hidden();
        };
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), BAR),
            None => (ProgressBar::new_spinner(), SPINNER),
        };
        let style = ProgressStyle::with_template(template).expect("the template is sound");
        bars.add(bar.with_style(style).with_message(name.to_owned()))
    }

    /// Says something on standard error without a bar in it.
    pub(super) fn suspend(&self, say: impl FnOnce()) {
        match &self.0 {
            Some(bars) => bars.suspend(say),
            None => say(),
        }
    }
}

const BAR: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const SPINNER: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";
