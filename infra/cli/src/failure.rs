//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

use serde::Deserialize;

use crate::text::{BAD, clean};

/// Why a command failed. Scripts tell the kinds apart by the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was understood and the answer is no. Exit code 1.
    Refused(String),
    /// It cannot be done as it is written. Exit code 2, as for mistyped arguments.
    Usage(String),
    /// There was no answer, or none yet. Trying again may help. Exit code 3.
    Unreachable(String),
}

impl Failure {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        })
    }

    /// Writes it to standard error.
    pub(crate) fn tell(&self) {
        anstream::eprintln!("{BAD}error{BAD:#}: {self}");
    }

    /// What an API's answer with this status and body means.
    pub(crate) fn of_answer(status: u16, body: &str) -> Self {
        let text = match serde_json::from_str::<Problem>(body) {
            Ok(problem) => problem.told(),
            Err(_) => told_by_gateway(status, body),
        };
        // What was throttled, and what the server could not do, may work later.
        if status == 429 || status >= 500 { Self::Unreachable(text) } else { Self::Refused(text) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Usage(text) | Self::Unreachable(text)) = self;
        f.write_str(text)
    }
}

/// Problem details (RFC 9457), as the API writes them.
#[derive(Deserialize)]
struct Problem {
    title: String,
    status: u16,
    detail: String,
    correlation_id: Option<String>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    pointer: String,
    message: String,
}

impl Problem {
    fn told(&self) -> String {
        let mut text = format!("{} ({}): {}", clean(&self.title), self.status, clean(&self.detail));
        for Fault { pointer, message } in &self.errors {
            text.push_str(&format!("\n  {}: {}", clean(pointer), clean(message)));
        }
        if let (500.., Some(id)) = (self.status, &self.correlation_id) {
            text.push_str(&format!("\n  correlation_id {}", clean(id)));
        }
        text
    }
}

/// The gateway answers for the API when it lets nobody through.
fn told_by_gateway(status: u16, body: &str) -> String {
    let next = match status {
        401 => "The token is missing, ended or revoked. Make one with `steadhook tokens create`.",
        403 => {
            "These credentials may not do this: an IAM user or role needs `execute-api:Invoke`, a token the right scope."
        }
        404 => "The URL is not that of a Steadhook API. It ends with the host, or on a local stack with `$default`.",
        429 => "Too many requests. Try again in a moment.",
        _ => "Try again. If it lasts, `steadhook doctor` says what is wrong.",
    };
    let said = clean(body.trim());
    let said: String = said.chars().take(200).collect();
    format!("the API answered {status} {said}\n  {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_request_is_told() {
        let body = r#"{"type":"urn:steadhook:problem:invalid","title":"Invalid request","status":422,"detail":"2 faults","correlation_id":"c",
            "errors":[{"pointer":"/a","message":"is missing"},{"pointer":"/b","message":"is \u001b[31m"}]}"#;
        let failure = Failure::of_answer(422, body);
        assert!(matches!(failure, Failure::Refused(_)));
        assert_eq!(failure.to_string(), "Invalid request (422): 2 faults\n  /a: is missing\n  /b: is \\u{1b}[31m");
    }

    #[test]
    fn what_may_work_later_is_told_apart() {
        for (status, later) in
            [(400, false), (403, false), (404, false), (409, false), (429, true), (500, true), (503, true)]
        {
            assert_eq!(matches!(Failure::of_answer(status, "{}"), Failure::Unreachable(_)), later, "{status}");
        }
        assert!(Failure::of_answer(403, r#"{"message":"Forbidden"}"#).to_string().contains("execute-api:Invoke"));
    }
}
