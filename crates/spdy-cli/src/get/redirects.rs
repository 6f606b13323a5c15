//! `--location`: which redirects are followed. tower-http follows them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use http::{Request, Uri, header::HOST};
use indicatif::ProgressBar;
use tower_http::follow_redirect::policy::{Action, Attempt, Policy};

use super::upload::{Payload, Upload};
use crate::{
    failure::{Exit, Failure},
    origin::without_user,
};

/// Follows up to [`MAX_REDIRECTS`] to http and https.
#[derive(Clone)]
pub(super) struct Redirects {
    pub(super) upload: Option<Arc<Upload>>,
    pub(super) sent: Arc<AtomicU64>,
    /// The number of redirects that were followed.
    pub(super) count: Arc<AtomicU32>,
    /// Why the body cannot be sent again, if that has been tried.
    pub(super) unopened: Arc<OnceLock<Failure>>,
    /// Whether a redirect has led to another origin.
    pub(super) is_away: bool,
}

impl Policy<Payload, Failure> for Redirects {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, Failure> {
        let uri = attempt.location();
        let location = without_user(&uri.to_string());
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            let message = format!("redirect to {location}, which is neither http nor https");
            return Err(Failure::new(Exit::Exchange, message));
        }
        if self.count.fetch_add(1, Ordering::Relaxed) == MAX_REDIRECTS {
            let message =
                format!("more than {MAX_REDIRECTS} redirects, the last one to {location}");
            return Err(Failure::new(Exit::Exchange, message));
        }
        self.is_away |= !is_same_origin(uri, attempt.previous());
        Ok(Action::Follow)
    }

    /// The host that the user has written in a field is that of the first URL.
    fn on_request(&mut self, request: &mut Request<Payload>) {
        if self.is_away {
            request.headers_mut().remove(HOST);
        }
    }

    /// Opens the files of the body again.
    fn clone_body(&self, _: &Payload) -> Option<Payload> {
        let upload = self.upload.as_ref()?;
        if upload.once().is_some() {
            return None;
        }
        match upload.open(&ProgressBar::hidden(), &self.sent) {
            Ok((body, _)) => Some(body),
            Err(failure) => {
                _ = self.unopened.set(failure);
                None
            }
        }
    }
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// As many as curl follows.
const MAX_REDIRECTS: u32 = 50;
