use std::io;
use std::path::Path;

use serde_json::json;

use crate::admin::wire::{ImportView, Problem};

/// How the command ends. Numbers from 64 on are those of sysexits.h; `docs/command.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, and the answer is the good one.
    Ok = 0,
    /// Done, and the answer is the other one: another verdict, not well, something expires, or the person declined.
    No = 1,
    /// The command line is wrong.
    Usage = 64,
    /// What was given is refused: a value, a line, a change that the key's state does not allow.
    Data = 65,
    /// There is no such file, key or function.
    NoInput = 66,
    /// The daemon cannot be reached.
    Unavailable = 69,
    /// A fault of doorward itself.
    Software = 70,
    /// The system refuses a thread, a signal handler or a socket.
    System = 71,
    /// A file or a key cannot be made, because there is one already.
    CantCreate = 73,
    /// Reading or writing failed, here or on the daemon's disk.
    Io = 74,
    /// Trying again may help: another admin was faster, or changes are refused at present.
    TempFail = 75,
    /// Not allowed.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// Why the command did not do what was asked: what was wrong, where, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the command ends.
    pub(crate) exit: Exit,
    /// A stable word.
    pub(crate) kind: Box<str>,
    /// What it is, in general.
    pub(crate) title: Box<str>,
    /// What it is this time, and what to do.
    pub(crate) detail: String,
    /// The HTTP status, when the daemon said so.
    pub(crate) status: Option<u16>,
    /// The field that is wrong, if one is.
    pub(crate) field: Option<Box<str>>,
    /// The line of an input that is wrong, counted from 1.
    pub(crate) line: Option<u64>,
    /// What a failed import had done before: its batches stay.
    pub(crate) import: Option<Box<ImportView>>,
}

/// What stands before the word in a problem's type.
const URN: &str = "urn:doorward:problem:";

impl Failure {
    /// A failure that this command found itself.
    pub(crate) fn new(exit: Exit, kind: &str, title: &str, detail: impl Into<String>) -> Failure {
        Failure {
            exit,
            kind: format!("{URN}{kind}").into(),
            title: title.into(),
            detail: detail.into(),
            status: None,
            field: None,
            line: None,
            import: None,
        }
    }

    /// The command line does not say what is needed.
    pub(crate) fn usage(detail: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "usage", "the command line is wrong", detail)
    }

    /// Says what had been done before the failure.
    pub(crate) fn after(mut self, done: &str) -> Failure {
        self.detail = format!("{}; {done}", self.detail);
        self
    }

    /// The failure of a request that began behind so many lines of the input.
    pub(crate) fn behind(mut self, lines: u64) -> Failure {
        self.line = self.line.map(|line| line + lines);
        self
    }

    /// Something of doorward itself is wrong.
    pub(crate) fn software(detail: impl Into<String>) -> Failure {
        Failure::new(Exit::Software, "software", "a fault of doorward", detail)
    }

    /// A file cannot be read or written.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NoInput,
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            io::ErrorKind::AlreadyExists => Exit::CantCreate,
            _ => Exit::Io,
        };
        Failure::new(exit, "file", "a file cannot be used", format!("cannot {doing} {}: {error}", path.display()))
    }

    /// Standard input, output or the terminal failed.
    pub(crate) fn stream(doing: &str, error: &io::Error) -> Failure {
        Failure::new(Exit::Io, "stream", "reading or writing failed", format!("{doing}: {error}"))
    }

    /// The person at the terminal said no. Nothing was changed.
    pub(crate) fn declined() -> Failure {
        Failure::new(Exit::No, "declined", "declined", "nothing was changed")
    }

    /// What the daemon refused.
    pub(crate) fn from_problem(problem: Problem) -> Failure {
        Failure {
            exit: exit_of(problem.status, problem.kind.strip_prefix(URN).unwrap_or(&problem.kind)),
            kind: problem.kind.into(),
            title: problem.title.into(),
            detail: problem.detail,
            status: Some(problem.status),
            field: problem.field.map(Into::into),
            line: problem.line,
            import: problem.import.map(Box::new),
        }
    }

    /// As a line for a person.
    pub(crate) fn text(&self) -> String {
        let place = self.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let named = self.field.as_deref().is_some_and(|field| !self.detail.contains(field));
        let field = if named { format!("{}: ", self.field.as_deref().unwrap_or_default()) } else { String::new() };
        let detail = if self.detail.is_empty() { &*self.title } else { &self.detail };
        format!("doorward: {place}{field}{detail}")
    }

    /// As a problem document for a script, with the exit code.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut problem = json!({ "type": self.kind, "title": self.title, "detail": self.detail, "exit_code": self.exit as u8 });
        let optional = [
            ("status", self.status.map(serde_json::Value::from)),
            ("field", self.field.as_deref().map(serde_json::Value::from)),
            ("line", self.line.map(serde_json::Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                problem[name] = value;
            }
        }
        problem
    }
}

/// Which exit code a problem of the admin API has: by its word where the status says too little, else by the status.
fn exit_of(status: u16, kind: &str) -> Exit {
    match (kind, status) {
        ("name-taken", _) => Exit::CantCreate,
        ("effective-not-durable", _) => Exit::Io,
        ("no-route", _) => Exit::Software,
        (_, 401 | 403) => Exit::NoPermission,
        (_, 404) => Exit::NoInput,
        (_, 408 | 412 | 429 | 503) => Exit::TempFail,
        (_, 507) => Exit::Io,
        (_, 405 | 406 | 415) => Exit::Software,
        (_, 400..=499) => Exit::Data,
        _ => Exit::Software,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, kind: &str) -> Problem {
        Problem {
            kind: format!("{URN}{kind}"),
            title: "refused".into(),
            status,
            detail: "grants: 'x y' is not a function name".into(),
            field: Some("grants".into()),
            line: Some(3),
            import: None,
        }
    }

    #[test]
    fn problems_map_to_sysexits() {
        for (status, kind, code) in [
            (400, "malformed", 65),
            (408, "timeout", 75),
            (403, "forbidden", 77),
            (404, "not-found", 66),
            (404, "no-route", 70),
            (409, "name-taken", 73),
            (409, "conflict", 65),
            (412, "revision-mismatch", 75),
            (413, "too-large", 65),
            (422, "invalid", 65),
            (500, "internal", 70),
            (500, "effective-not-durable", 74),
            (503, "refusing-changes", 75),
            (503, "busy", 75),
        ] {
            assert_eq!(Failure::from_problem(problem(status, kind)).exit as u8, code, "{status} {kind}");
        }
    }

    #[test]
    fn a_failure_says_where_and_what() {
        let failure = Failure::from_problem(problem(422, "invalid"));
        assert_eq!(failure.text(), "doorward: line 3: grants: 'x y' is not a function name");
        let json = failure.json();
        assert_eq!((json["exit_code"].as_u64(), json["status"].as_u64(), json["line"].as_u64()), (Some(65), Some(422), Some(3)));
        assert_eq!(Failure::usage("x").json().get("status"), None);
    }
}
