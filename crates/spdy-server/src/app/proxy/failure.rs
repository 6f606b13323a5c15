//! What can go wrong between a proxy and its application, and what the client is told about it.

use std::{error::Error, fmt};

use axum::{
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

/// Why there is no answer of the application.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect(String),
    /// No connection was made in time.
    ConnectTimeout,
    /// All connections were in use for too long.
    Busy,
    /// The application said nothing for too long.
    Silent,
    /// The connection broke, or what came over it was not HTTP.
    Broken(String),
    /// The application goes away, and has not looked at the request.
    Untouched,
    /// The application has switched to another protocol, which nobody has asked for.
    Switched,
    /// The client's body broke off.
    Body(String),
}

impl Failure {
    pub(super) fn of(error: &hyper::Error) -> Self {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let reason = format!("{error}{}", cause.unwrap_or_default());
        if error.is_user() {
            Self::Body(reason)
        } else {
            Self::Broken(reason)
        }
    }

    /// Whether an operator can do something about it.
    pub(super) const fn is_the_applications(&self) -> bool {
        !matches!(self, Self::Body(_))
    }

    /// The details, which are for the log and not for the client.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Connect(reason) | Self::Broken(reason) | Self::Body(reason) => Some(reason),
            Self::ConnectTimeout | Self::Busy | Self::Silent | Self::Untouched | Self::Switched => {
                None
            }
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Switched => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy | Self::Untouched => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "the application cannot be reached",
            Self::ConnectTimeout => "the application takes no connection in time",
            Self::Busy => "the application is busy with too many requests",
            Self::Silent => "the application gives no answer in time",
            Self::Broken(_) => "the application gives no proper answer",
            Self::Untouched => {
                "the application has not looked at the request, which can be sent again"
            }
            Self::Switched => "the application has switched to another protocol",
            Self::Body(_) => "the body of the request broke off",
        })
    }
}

/// A page for people, and one line to look for in what a program has received.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status}</title>\n\
             <h1>{status}</h1>\n<p>This server passes requests on, and {self}.</p>\n</html>\n"
        );
        let fields = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
        ];
        (status, fields, page).into_response()
    }
}
