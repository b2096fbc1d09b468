//! Runs of `mpflow`, and whether they did what they should.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::contest::{Context, Cost, LOCALE, timed};
use crate::input::Lines;

/// The program that was built with this benchmark.
const MPFLOW: &str = env!("CARGO_BIN_EXE_mpflow");

/// A pipeline in a file.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    file: PathBuf,
    report: PathBuf,
    stdin: Option<PathBuf>,
}

impl Pipeline {
    pub(crate) fn new(context: &Context, name: &str, text: &str) -> Self {
        let file = context.folder().join(format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        Self { file, report: context.folder().join(format!("{name}.json")), stdin: None }
    }

    /// With this file as the standard input.
    pub(crate) fn reading(mut self, input: &Path) -> Self {
        self.stdin = Some(input.to_owned());
        self
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(MPFLOW);
        command.arg("run").arg(&self.file).args(["--progress", "none"]).env(LOCALE.0, LOCALE.1);
        match &self.stdin {
            Some(input) => command.stdin(File::open(input).unwrap()),
            None => command.stdin(Stdio::null()),
        };
        command.stdout(Stdio::null());
        command
    }

    /// The seconds of one run.
    pub(crate) fn seconds(&self) -> Cost {
        timed(&mut self.command()).map(|time| time.as_secs_f64())
    }

    /// The seconds of one run in which this edge delivered so many records and lost none.
    pub(crate) fn seconds_delivering(&self, edge: &str, records: u64) -> Cost {
        let time = timed(self.command().arg("--report").arg(&self.report))?;
        let report = std::fs::read_to_string(&self.report).map_err(|error| error.to_string())?;
        let report: Value = serde_json::from_str(&report).map_err(|error| error.to_string())?;
        let edges = report["edges"].as_array().ok_or("the report has no edges")?;
        let found = edges.iter().find(|found| found["edge"].as_str().is_some_and(|name| name.contains(edge)));
        let delivered = found.and_then(|found| found["delivered"].as_u64());
        if delivered != Some(records) {
            return Err(format!("`{edge}` delivered {delivered:?} records of {records}"));
        }
        Ok(time.as_secs_f64())
    }

    /// Runs it once, untimed, and looks at what comes out.
    pub(crate) fn lines(&self) -> Result<Lines, String> {
        let mut child = self.command().stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let lines = Lines::of(child.stdout.take().unwrap());
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(lines) } else { Err(format!("it ended with {status}")) }
    }
}

/// A file's name in a pipeline.
pub(crate) fn quoted(path: &Path) -> String {
    Value::from(path.to_str().unwrap()).to_string()
}
