//! The failures between a proxy and its application, and the responses that report them to the
//! client.

use std::{error::Error, fmt};

use axum::{
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

/// The reason why the application has not responded.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The connection could not be opened.
    Connect(String),
    /// Nothing listens at the address. The application might be starting.
    Refused(String),
    /// The connection was not opened in time.
    ConnectTimeout,
    /// All connections were in use for too long.
    Busy,
    /// The application was silent for too long.
    Silent,
    /// The connection broke, or it carried something other than HTTP.
    Broken(String),
    /// The application closes the connection, and has not processed the request.
    Untouched,
    /// The application has switched to another protocol, although the proxy has not asked for it.
    Switched,
    /// The body of the client's request was incomplete.
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

    /// Returns whether the application is the cause, so that an operator can act.
    pub(super) const fn is_the_applications(&self) -> bool {
        !matches!(self, Self::Body(_))
    }

    /// Returns the details, which are for the log and not for the client.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Connect(reason)
            | Self::Refused(reason)
            | Self::Broken(reason)
            | Self::Body(reason) => Some(reason),
            Self::ConnectTimeout | Self::Busy | Self::Silent | Self::Untouched | Self::Switched => {
                None
            }
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Connect(_) | Self::Refused(_) | Self::Broken(_) | Self::Switched => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimeout | Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy | Self::Untouched => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) | Self::Refused(_) => "cannot connect to the application",
            Self::ConnectTimeout => "timeout while connecting to the application",
            Self::Busy => "the application has too many open requests",
            Self::Silent => "the application did not respond in time",
            Self::Broken(_) => "invalid response from the application",
            Self::Untouched => {
                "the application did not process the request, which can be sent again"
            }
            Self::Switched => "the application switched to another protocol",
            Self::Body(_) => "incomplete request body",
        })
    }
}

/// A page for people, with a line that programs can search for.
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
