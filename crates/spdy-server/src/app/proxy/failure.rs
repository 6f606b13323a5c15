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
    /// This machine has nothing left of what a connection needs. That is not the fault of the
    /// address.
    Short(String),
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
    /// The application has switched to a protocol that the client has not asked for.
    Switched,
    /// The client asks for another protocol, and the application supports HTTP/2 alone.
    NeverSwitches,
    /// The head of the response was longer than [`MAX_HEAD`], or had too many fields.
    HeadTooLong,
    /// The body of the client's request was incomplete.
    Body(String),
    /// The body of the client's request was longer than this number of bytes.
    TooLong(u64),
}

impl Failure {
    pub(super) fn of(error: &hyper::Error) -> Self {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let reason = format!("{error}{}", cause.unwrap_or_default());
        if error.is_parse_too_large() {
            Self::HeadTooLong
        } else if error.is_user() {
            Self::Body(reason)
        } else if error
            .source()
            .and_then(|it| it.downcast_ref())
            .is_some_and(is_malformed)
        {
            Self::Broken(format!("{reason}; {MALFORMED}"))
        } else {
            Self::Broken(reason)
        }
    }

    /// Returns whether the application is the cause, so that an operator can act.
    pub(super) const fn is_the_applications(&self) -> bool {
        !matches!(
            self,
            Self::Short(_) | Self::Body(_) | Self::TooLong(_) | Self::NeverSwitches
        )
    }

    /// Returns the details, which are for the log and not for the client.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Connect(reason)
            | Self::Refused(reason)
            | Self::Short(reason)
            | Self::Broken(reason)
            | Self::Body(reason) => Some(reason),
            Self::HeadTooLong => Some(BOUNDS_OF_HEAD),
            Self::TooLong(_)
            | Self::ConnectTimeout
            | Self::Busy
            | Self::Silent
            | Self::Untouched
            | Self::Switched
            | Self::NeverSwitches => None,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Connect(_)
            | Self::Refused(_)
            | Self::Broken(_)
            | Self::HeadTooLong
            | Self::Switched => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::Short(_) | Self::Busy | Self::Untouched => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NeverSwitches => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) | Self::Refused(_) => "cannot connect to the application",
            Self::Short(_) => "it has no room for another connection",
            Self::ConnectTimeout => "timeout while connecting to the application",
            Self::Busy => "the application has too many open requests",
            Self::Silent => "the application did not respond in time",
            Self::Broken(_) => "invalid response from the application",
            Self::Untouched => {
                "the application did not process the request, which can be sent again"
            }
            Self::Switched => "the application switched to a protocol that was not asked for",
            Self::NeverSwitches => {
                "the application supports HTTP/2 alone, which has no other protocol to switch to"
            }
            Self::HeadTooLong => "the head of the response of the application is too long",
            Self::Body(_) => "incomplete request body",
            Self::TooLong(most) => {
                return write!(f, "the body of the request is longer than {most} bytes");
            }
        })
    }
}

/// Returns whether h2 has reset a stream because of what the application has sent on it.
fn is_malformed(error: &h2::Error) -> bool {
    error.is_library() && error.is_reset()
}

/// The maximum number of bytes of the head of a response. Over HTTP/2 each field counts 32 more.
pub(super) const MAX_HEAD: u32 = 128 * 1024;

/// What a head has exceeded, for the log.
const BOUNDS_OF_HEAD: &str =
    "more than 131072 bytes or 100 fields (`MAX_HEAD`); the application has to send fewer";

/// The same over HTTP/2, where h2 does not tell which.
const MALFORMED: &str =
    "the response is malformed, or its head is longer than 131072 bytes (`MAX_HEAD`)";

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
