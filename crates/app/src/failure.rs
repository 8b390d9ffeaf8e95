//! What went wrong, for a person, with the exit code it means.

#[cfg(feature = "full")]
use serde_json::Value;
use std::fmt;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code (see `cli::EXIT_CODES`).
    pub code: u8,
    /// What happened, to what.
    pub what: String,
    /// What to do next; may be empty.
    pub advice: String,
}

impl Failure {
    /// With a code.
    pub fn new(code: u8, what: impl fmt::Display) -> Self {
        Self { code, what: what.to_string(), advice: String::new() }
    }

    /// Failed (1).
    pub fn failed(what: impl fmt::Display) -> Self {
        Self::new(1, what)
    }

    /// Wrong usage or value (2).
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(2, what)
    }

    /// The same with what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl fmt::Display) -> Self {
        self.advice = advice.to_string();
        self
    }

    /// From an RFC 9457 problem document.
    #[cfg(feature = "full")]
    pub fn of_problem(status: u16, problem: &Value) -> Self {
        let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
        let code = match status {
            400 | 413 | 415 | 422 => 2,
            401 | 403 => 3,
            404 => 4,
            409 => 5,
            _ => 1,
        };
        let mut what = match (text("title"), text("detail")) {
            ("", "") => format!("the server answered {status}"),
            (title, "") => title.to_owned(),
            ("", detail) => detail.to_owned(),
            (title, detail) => format!("{title}: {detail}"),
        };
        if !text("field").is_empty() {
            what = format!("{what} [{}]", text("field"));
        }
        let mut advice = text("advice").to_owned();
        if status == 401 && advice.is_empty() {
            advice = "Sign in: fettle login --server URL --user NAME".to_owned();
        }
        Self { code, what, advice }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fettle: {}", harmless(&self.what))?;
        if !self.advice.is_empty() {
            write!(f, "\n        {}", harmless(&self.advice))?;
        }
        Ok(())
    }
}

/// What a server or a file says must not move the cursor or colour the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_becomes_what_happened_and_what_to_do() {
        let problem = json!({ "title": "Not now", "detail": "change_1 is draft\u{1b}[31m", "field": "state", "advice": "Wait for it." });
        let failure = Failure::of_problem(409, &problem);
        assert_eq!(failure.code, 5);
        insta::assert_snapshot!(failure, @r"
        fettle: Not now: change_1 is draft [31m [state]
                Wait for it.
        ");
    }

    #[test]
    fn every_status_has_its_exit_code() {
        let codes =
            [(400, 2), (401, 3), (403, 3), (404, 4), (409, 5), (413, 2), (422, 2), (429, 1), (500, 1), (503, 1)];
        for (status, code) in codes {
            assert_eq!(Failure::of_problem(status, &Value::Null).code, code, "{status}");
        }
        assert!(Failure::of_problem(401, &Value::Null).advice.contains("fettle login"));
        assert_eq!(Failure::of_problem(502, &json!("no problem document")).what, "the server answered 502");
    }
}
