//! Responses that refuse a request, in the form of Kubernetes.

use http::StatusCode;
use spdy_kube::Status;

/// Returns a failure. The reason of Kubernetes belongs to the code.
pub(crate) fn refusal(code: StatusCode, message: impl Into<String>) -> Status {
    let reason = match code {
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "InternalError",
    };
    Status::Failure {
        reason: reason.to_owned(),
        message: message.into(),
        code: code.as_u16(),
    }
}

pub(crate) fn forbidden(why: impl Into<String>) -> Status {
    refusal(StatusCode::FORBIDDEN, why)
}
