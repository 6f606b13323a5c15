//! The outcome of a command, and its form for the client: the JSON of Kubernetes, or text for older
//! clients.

use std::{error::Error, fmt};

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};

use crate::Protocol;

/// Why a command could not run, or a connection could not be made. The user sees its text.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// The exit code of a successful command.
    pub const SUCCESS: Self = Self(0);

    /// Returns the exit code of a command that ended by itself, 0 for success.
    #[must_use]
    pub const fn code(code: u8) -> Self {
        Self(code)
    }

    /// Returns the exit code of a command that a signal ended: 128 plus its number, as in shells.
    #[must_use]
    pub const fn signal(number: u8) -> Self {
        Self(128_u8.saturating_add(number))
    }

    /// Returns the code, as `$?` shows it.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns whether the code is 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        #[cfg(unix)]
        if let Some(number) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::signal(u8::try_from(number).unwrap_or(u8::MAX));
        }
        // A code that does not fit into a byte remains a failure.
        Self(u8::try_from(status.code().unwrap_or(1)).unwrap_or(u8::MAX))
    }
}

/// The outcome of a request, as the `Status` object of Kubernetes. It is the last message on the
/// error stream of exec and attach, and the body of a refusal over HTTP, which kubectl prints as an
/// error of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything went well.
    Success,
    /// The command ran and its exit code is not 0.
    Exit(Exit),
    /// Another failure.
    Failure {
        /// The reason in one word, such as `NotFound`.
        reason: String,
        /// The message for the user.
        message: String,
        /// The code, as in HTTP.
        code: u16,
    },
}

impl Status {
    /// Returns the failure for a missing object: `pods "demo" not found`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Returns the failure for an invalid request.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Returns the failure of this server.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// Returns the failure for a session that this server ends.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let code = StatusCode::SERVICE_UNAVAILABLE;
        Self::failure(code, "ServiceUnavailable", message)
    }

    pub(crate) fn failure(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self::Failure {
            reason: reason.to_owned(),
            message: message.into(),
            code: code.as_u16(),
        }
    }

    /// Parses the JSON of an error stream.
    ///
    /// # Errors
    ///
    /// [`StatusError`], in the same cases as kubectl: the text is not JSON, the status is neither
    /// `Success` nor `Failure`, or a failed command has no exit code from 0 to 255.
    pub fn from_json(json: &[u8]) -> Result<Self, StatusError> {
        let value: Value = serde_json::from_slice(json).map_err(|_| StatusError::NotJson)?;
        match value["status"].as_str() {
            Some("Success") => return Ok(Self::Success),
            Some("Failure") => {}
            _ => return Err(StatusError::NoOutcome),
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        if value["reason"] == NON_ZERO {
            return exit_code(&value).map(|code| Self::Exit(Exit(code)));
        }
        Ok(Self::Failure {
            reason: text("reason"),
            message: text("message"),
            code: value["code"]
                .as_u64()
                .and_then(|code| code.try_into().ok())
                .unwrap_or_default(),
        })
    }

    /// Returns the status as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        object.insert("metadata".into(), json!({}));
        let outcome = match self {
            Self::Success => "Success",
            _ => "Failure",
        };
        object.insert("status".into(), outcome.into());
        match self {
            Self::Success => {}
            Self::Exit(exit) => {
                let code = exit.get().to_string();
                let causes = json!({"causes": [{"reason": EXIT_CODE, "message": code}]});
                object.insert("reason".into(), NON_ZERO.into());
                object.insert("message".into(), self.to_string().into());
                object.insert("details".into(), causes);
            }
            Self::Failure {
                reason,
                message,
                code,
            } => {
                object.insert("reason".into(), reason.as_str().into());
                object.insert("message".into(), message.as_str().into());
                object.insert("code".into(), (*code).into());
            }
        }
        Value::Object(object).to_string()
    }

    /// Returns an HTTP response with the code of the failure. kubectl prints it as `Error from
    /// server (NotFound): …`.
    #[must_use]
    pub fn into_response(self) -> Response<String> {
        let code = match &self {
            Self::Success => StatusCode::OK,
            Self::Exit(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Failure { code, .. } => {
                StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        // As a body the object has to name its kind.
        let body = self
            .to_json()
            .replacen('{', r#"{"kind":"Status","apiVersion":"v1","#, 1);
        let mut response = Response::new(body);
        *response.status_mut() = code;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// Returns the Status of a response that refuses an upgrade: the Status in its body, or else a
    /// failure with its text. It is never a success, whatever the body says.
    pub(crate) fn of_refusal(response: &Response<String>) -> Self {
        let (code, body) = (response.status(), response.body());
        match Self::from_json(body.as_bytes()) {
            Ok(status) if status != Self::Success => status,
            _ => {
                let reason = code.canonical_reason().unwrap_or_default();
                Self::failure(code, reason, body.trim())
            }
        }
    }

    /// Returns the status with at most [`MAX_TEXT`] bytes of its message.
    fn shortened(&self) -> Self {
        let mut status = self.clone();
        if let Self::Failure { message, .. } = &mut status {
            shorten(message);
        }
        status
    }

    /// Returns the text for the error stream in a version of the protocol. Before v4 no text means
    /// success, so a failure always has one.
    pub(crate) fn to_stream(&self, protocol: Protocol) -> String {
        match self {
            Self::Failure { message, .. } if message.len() > MAX_TEXT => {
                self.shortened().to_stream(protocol)
            }
            _ if protocol.has_status() => self.to_json(),
            Self::Success => String::new(),
            Self::Failure {
                reason, message, ..
            } => {
                let texts = [message.as_str(), reason, "failure without a message"];
                let first = texts.into_iter().find(|text| !text.is_empty());
                first.unwrap_or_default().to_owned()
            }
            Self::Exit(_) => self.to_string(),
        }
    }
}

impl From<Exit> for Status {
    fn from(exit: Exit) -> Self {
        if exit.is_success() {
            Self::Success
        } else {
            Self::Exit(exit)
        }
    }
}

/// Shows the message for the user.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Exit(exit) => write!(
                f,
                "command terminated with non-zero exit code: exit status {}",
                exit.get()
            ),
            Self::Failure { message, .. } => f.write_str(message),
        }
    }
}

/// Cuts a text for a client after [`MAX_TEXT`] bytes. A longer one could exceed what the client
/// reads, or what one message of a WebSocket can carry.
pub(crate) fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
}

/// The longest message of a failure for a client, in bytes.
pub(crate) const MAX_TEXT: usize = 64 * 1024;

/// Finds the exit code among the causes of a failed command.
fn exit_code(status: &Value) -> Result<u8, StatusError> {
    let causes = status["details"]["causes"].as_array();
    let mut causes = causes.into_iter().flatten();
    let cause = causes
        .find(|cause| cause["reason"] == EXIT_CODE)
        .ok_or(StatusError::NoExitCode)?;
    let code = cause["message"].as_str().unwrap_or_default();
    code.parse().map_err(|_| StatusError::NoExitCode)
}

/// The error for an error stream whose JSON is not a valid Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusError {
    /// It cannot be parsed.
    NotJson,
    /// It says neither `Success` nor `Failure`.
    NoOutcome,
    /// The command failed, and no code from 0 to 255 says how.
    NoExitCode,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "status on the error stream is not JSON",
            Self::NoOutcome => "status on the error stream is neither Success nor Failure",
            Self::NoExitCode => "status on the error stream has no exit code from 0 to 255",
        })
    }
}

impl Error for StatusError {}

const NON_ZERO: &str = "NonZeroExitCode";

const EXIT_CODE: &str = "ExitCode";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_said_as_kubectl_wants_it() {
        let value: Value =
            serde_json::from_str(&Status::from(Exit::code(7)).to_stream(Protocol::V4)).unwrap();
        let expected = json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: exit status 7",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn success_is_a_status_from_v4_on_and_nothing_before() {
        let success = Status::from(Exit::SUCCESS);
        let json = r#"{"metadata":{},"status":"Success"}"#;
        assert_eq!(success.to_stream(Protocol::V4), json);
        assert_eq!(success.to_stream(Protocol::V3), "");
        assert_eq!(
            Status::from(Exit::code(3)).to_stream(Protocol::V2),
            "command terminated with non-zero exit code: exit status 3"
        );
    }

    /// An upstream server can send one, and `shutdown` can be given one.
    #[test]
    fn a_failure_without_a_message_is_no_success_before_v4() {
        for (reason, expected) in [("Timeout", "Timeout"), ("", "failure without a message")] {
            let failure = Status::failure(StatusCode::GATEWAY_TIMEOUT, reason, "");
            for protocol in [Protocol::V1, Protocol::V2, Protocol::V3] {
                assert_eq!(failure.to_stream(protocol), expected);
            }
        }
    }

    /// The client reads 1 MiB of it, and a message of a WebSocket can carry as much.
    #[test]
    fn a_long_message_of_a_failure_is_cut() {
        let message = format!(
            "{}\u{e9}{}",
            "\u{1}".repeat(MAX_TEXT - 1),
            "x".repeat(3 << 20)
        );
        let failure = Status::internal(message);
        for protocol in [Protocol::V1, Protocol::V5] {
            let text = failure.to_stream(protocol);
            assert!(text.len() < 512 * 1024, "{}", text.len());
        }
        let read = Status::from_json(failure.to_stream(Protocol::V4).as_bytes());
        let message = read.unwrap().to_string();
        assert!(message.len() <= MAX_TEXT && failure.to_string().starts_with(&message));
        let mut short = "\u{e9}".repeat(MAX_TEXT / 2);
        let before = short.clone();
        shorten(&mut short);
        assert_eq!(short, before);
        short.insert(0, 'x');
        shorten(&mut short);
        assert_eq!(short.len(), MAX_TEXT - 1);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let all = [
            Status::Success,
            Status::Exit(Exit::signal(9)),
            Status::internal("a \"quoted\" text\n"),
            Status::not_found("pods \"x\" not found"),
        ];
        for status in all {
            assert_eq!(Status::from_json(status.to_json().as_bytes()), Ok(status));
        }
    }

    #[test]
    fn what_kubectl_refuses_is_refused() {
        let read = |json: &str| Status::from_json(json.as_bytes());
        assert_eq!(read("exit status 1"), Err(StatusError::NotJson));
        assert_eq!(read("[]"), Err(StatusError::NoOutcome));
        assert_eq!(read(r#"{"status":"Maybe"}"#), Err(StatusError::NoOutcome));
        let failure = r#"{"status":"Failure","reason":"NonZeroExitCode"}"#;
        assert_eq!(read(failure), Err(StatusError::NoExitCode));
        let large = r#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"256"}]}}"#;
        assert_eq!(read(large), Err(StatusError::NoExitCode));
    }

    #[test]
    fn a_refusal_over_http_says_what_it_is() {
        let response = Status::not_found("pods \"x\" not found").into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let value: Value = serde_json::from_str(response.body()).unwrap();
        assert_eq!(
            (&value["kind"], &value["code"]),
            (&json!("Status"), &json!(404))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_signal_is_128_and_its_number() {
        use std::os::unix::process::ExitStatusExt;

        assert_eq!(Exit::from(std::process::ExitStatus::from_raw(9)).get(), 137);
        assert_eq!(
            Exit::from(std::process::ExitStatus::from_raw(7 << 8)).get(),
            7
        );
    }
}
