//! Events and reports for programs to read.

use std::io::{self, Write};

use crate::event::Event;
use crate::report::Report;

/// Writes events as NDJSON: one JSON document on a line for each.
#[derive(Debug)]
pub struct EventLog<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> EventLog<W> {
    /// A log that goes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    /// Writes one event, as a whole line in one call.
    ///
    /// # Errors
    ///
    /// What `out` answered; part of the line may have been written.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// Sees to it that all that was written has arrived.
    ///
    /// # Errors
    ///
    /// What `out` answered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a report as indented JSON.
///
/// # Errors
///
/// What `out` answered; part of the report may have been written.
pub fn write_report(mut out: impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, report)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{EventKind, WorkerId};
    use crate::report::ExitReport;

    #[test]
    fn every_event_is_one_flat_line() {
        let worker = WorkerId { stage: "square".into(), worker: "square/2".into(), rank: 2, generation: 1 };
        let exit = ExitReport {
            exit: -9,
            cpu: Duration::from_millis(5),
            peak_memory_bytes: 4096,
            core_dumped: false,
        };
        let kinds = [
            EventKind::WorkerEnded { worker, exit, success: false, pid: 77 },
            EventKind::Log { worker: "square/2".into(), line: "two\nlines".into() },
        ];
        let mut log = EventLog::new(Vec::new());
        for kind in kinds {
            log.write(&Event { at: Duration::from_millis(1500), kind }).unwrap();
        }
        insta::assert_snapshot!(String::from_utf8(log.out).unwrap(), @r#"
        {"t":1.5,"event":"worker_ended","stage":"square","worker":"square/2","rank":2,"generation":1,"exit":-9,"cpu_seconds":0.005,"peak_memory_bytes":4096,"success":false,"pid":77}
        {"t":1.5,"event":"log","worker":"square/2","line":"two\nlines"}
        "#);
    }
}
