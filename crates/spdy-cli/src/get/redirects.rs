//! `--location`: which redirects are followed. tower-http follows them.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use indicatif::ProgressBar;
use tower_http::follow_redirect::policy::{Action, Attempt, Policy};

use super::upload::{Payload, Upload};
use crate::failure::{Exit, Failure};

/// Follows up to [`MAX_REDIRECTS`] to http and https.
#[derive(Clone)]
pub(super) struct Redirects {
    pub(super) upload: Option<Arc<Upload>>,
    pub(super) sent: Arc<AtomicU64>,
    /// The number of redirects that were followed.
    pub(super) count: Arc<AtomicU32>,
}

impl Policy<Payload, Failure> for Redirects {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, Failure> {
        let location = attempt.location();
        if !matches!(location.scheme_str(), Some("http" | "https")) {
            let message = format!("redirect to {location}, which is neither http nor https");
            return Err(Failure::new(Exit::Exchange, message));
        }
        if self.count.fetch_add(1, Ordering::Relaxed) == MAX_REDIRECTS {
            let message =
                format!("more than {MAX_REDIRECTS} redirects, the last one to {location}");
            return Err(Failure::new(Exit::Exchange, message));
        }
        Ok(Action::Follow)
    }

    /// Opens the files of the body again.
    fn clone_body(&self, _: &Payload) -> Option<Payload> {
        let upload = self.upload.as_ref()?;
        if !upload.is_repeatable() {
            return None;
        }
        let opened = upload.open(&ProgressBar::hidden(), &self.sent);
        opened.ok().map(|(body, _)| body)
    }
}

/// As many as curl follows.
const MAX_REDIRECTS: u32 = 50;
