//! Which keys do something where: a key that is accepted and does nothing is a defect.

use super::fields::Fields;
use super::reader::Reader;
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Entry, Kind, Origin};
use crate::model::{Mode, Severity, StartMethod};

/// What decides whether a key does something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) body: BodyKind,
    /// `None` where it cannot be read: then nothing is said about modes.
    pub(super) mode: Option<Mode>,
    pub(super) start_method: Option<StartMethod>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    Command,
    Python,
    Function,
}

/// Why a key does nothing.
struct Idle {
    where_: &'static str,
    help: &'static str,
    severity: Severity,
}

/// Reports the stage's own keys that would do nothing, and takes out the defaults that would: a default is used
/// where it fits and nowhere else.
pub(super) fn keep_fitting(reader: Reader<'_>, fields: &mut Fields, circumstances: Circumstances) {
    fields.entries.retain(|entry| {
        let Some(idle) = idle(&entry.key, circumstances) else { return true };
        if entry.origin == Origin::Defaults {
            return false;
        }
        // `ordered: false` says what is so anyway.
        if !matches!(entry.value.kind, Kind::Bool(false)) {
            reader.report(finding(entry, &idle));
        }
        // Its value is read all the same: whoever moves the key should not find the next mistake then.
        true
    });
}

fn finding(entry: &Entry, idle: &Idle) -> Finding {
    let message = format!("`{}` has no effect on {}", entry.key, idle.where_);
    Finding::error(code::KEY_WITHOUT_EFFECT, message)
        .with_severity(idle.severity)
        .at(entry.key_span, "this would do nothing here")
        .help(idle.help)
}

/// Why a key does nothing in these circumstances; `None` where it does something.
fn idle(key: &str, circumstances: Circumstances) -> Option<Idle> {
    let Circumstances { body, mode, start_method } = circumstances;
    let error = |where_, help| Some(Idle { where_, help, severity: Severity::Error });
    let is_python = body == BodyKind::Python;
    match key {
        "python_executable" | "initializer" | "preload" | "unpack" if !is_python => {
            error("a stage that runs no Python callable", "remove it, or use `python: module:callable`")
        }
        "args" | "kwargs" if body == BodyKind::Command => {
            error("a stage that runs a command", "write them into the command")
        }
        "preload" if start_method == Some(StartMethod::Spawn) => {
            error("workers that are started by `spawn`", "set `start_method: forkserver`, or remove it")
        }
        "unpack" if mode == Some(Mode::Stream) => {
            error("a stage in `stream` mode", "set `mode: map`, or remove it: the callable gets an iterator")
        }
        "line_buffered" if body != BodyKind::Command => {
            error("a stage that runs no command", "remove it: what a function emits leaves at once")
        }
        "line_buffered" if mode == Some(Mode::Each) => {
            error("a stage in `each` mode", "remove it: the output leaves when the process has ended")
        }
        "ordered" | "prefetch" | "record_timeout" | "retry" | "on_error" if mode == Some(Mode::Stream) => {
            error("a stage in `stream` mode", "set `mode: map` or `mode: each`, or remove it")
        }
        "max_records_per_worker" if mode == Some(Mode::Stream) => {
            error("a stage in `stream` mode", "set `mode: map`, or remove it")
        }
        "max_records_per_worker" if mode == Some(Mode::Each) => {
            error("a stage in `each` mode", "remove it: every record has a process of its own")
        }
        "batch" if body == BodyKind::Command && mode.is_some_and(|mode| mode != Mode::Each) => {
            error("a command whose mode is not `each`", "set `mode: each`, or remove it")
        }
        "batch" if mode == Some(Mode::Stream) => {
            error("a stage in `stream` mode", "set `mode: map`, or remove it")
        }
        "ready" if mode == Some(Mode::Each) => {
            error("a stage in `each` mode", "remove it: its processes come and go with the records")
        }
        "restart" if mode == Some(Mode::Each) => Some(Idle {
            where_: "a stage in `each` mode",
            help: "use `retry`: the processes of `each` have attempts, not restarts",
            severity: Severity::Warning,
        }),
        _ => None,
    }
}
