//! The routes of the server.

use http::{HeaderValue, Method, StatusCode, header::ALLOW};

use super::Request;
use crate::{Status, negotiate::Refusal};

/// A kind of URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Exec,
    Attach,
    PortForward,
}

impl Route {
    pub(super) const fn of(request: &Request) -> Self {
        match request {
            Request::Exec(_) => Self::Exec,
            Request::Attach(_) => Self::Attach,
            Request::PortForward(_) => Self::PortForward,
        }
    }

    /// Returns the name in the path.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }
}

/// Returns the route and the token of a request, or the response that refuses it.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<(Route, &'a str), Refusal> {
    let found = parse(path).ok_or_else(|| Refusal::status(Status::not_found("no such path")))?;
    if *method == Method::GET || *method == Method::POST {
        return Ok(found);
    }
    let why = "only GET and POST are allowed";
    let status = Status::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", why);
    let mut refusal = Refusal::status(status);
    let allowed = HeaderValue::from_static("GET, POST");
    refusal.0.headers_mut().insert(ALLOW, allowed);
    Err(refusal)
}

fn parse(path: &str) -> Option<(Route, &str)> {
    let (name, token) = path.strip_prefix('/')?.split_once('/')?;
    let routes = [Route::Exec, Route::Attach, Route::PortForward];
    let route = routes.into_iter().find(|route| route.name() == name)?;
    Some((route, token))
}
