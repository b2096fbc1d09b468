//! A pipeline that runs inside the test, in a folder of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mpflow::event::{Event, EventKind};
use mpflow::language::ParseOptions;
use mpflow::report::Report;
use mpflow::{Engine, Pipeline, Run, Stdio};
use tempfile::TempDir;

/// Nothing is waited for longer.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Live {
    pub(crate) run: Run,
    folder: TempDir,
    events: Receiver<Event>,
    seen: Mutex<Vec<EventKind>>,
}

impl Live {
    /// Starts this document.
    pub(crate) fn start(text: &str) -> Self {
        Self::start_with(text, &[])
    }

    /// The same with these files beside it.
    pub(crate) fn start_with(text: &str, files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let run = Engine::new().stdout(Stdio::Null).start(&pipeline(text, &folder)).unwrap();
        let events = run.events();
        Self { run, folder, events, seen: Mutex::default() }
    }

    /// Another document in the same folder.
    pub(crate) fn pipeline(&self, text: &str) -> Pipeline {
        pipeline(text, &self.folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Waits until this holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}\n{:#?}", self.seen());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many lines are in a file.
    #[track_caller]
    pub(crate) fn wait_for_lines(&self, name: &str, count: usize) {
        self.wait_until(name, |live| live.read(name).lines().count() >= count);
    }

    /// What has happened so far.
    pub(crate) fn seen(&self) -> Vec<EventKind> {
        let mut seen = self.seen.lock().unwrap();
        seen.extend(self.events.try_iter().map(|event| event.kind));
        seen.clone()
    }

    /// By stage: the processes that there have been.
    pub(crate) fn pids(&self) -> BTreeMap<String, Vec<i32>> {
        let mut pids: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for kind in self.seen() {
            if let EventKind::WorkerStarted { worker, pid } = kind {
                pids.entry(worker.stage).or_default().push(pid);
            }
        }
        pids
    }

    /// How many workers of a stage have been told of.
    pub(crate) fn started(&self, stage: &str) -> usize {
        self.pids().get(stage).map_or(0, Vec::len)
    }

    /// The processes of a stage that have started and not ended.
    pub(crate) fn living(&self, stage: &str) -> BTreeSet<i32> {
        let mut living = BTreeSet::new();
        for kind in self.seen() {
            match kind {
                EventKind::WorkerStarted { worker, pid } if worker.stage == stage => {
                    living.insert(pid);
                }
                EventKind::WorkerEnded { worker, pid, .. } if worker.stage == stage => {
                    living.remove(&pid);
                }
                _ => {}
            }
        }
        living
    }

    /// Waits for the end of the run: its report, whose books balance, and what has happened.
    pub(crate) fn finish(self) -> (Report, Vec<EventKind>, TempDir) {
        let Self { run, folder, events, seen } = self;
        let report = run.wait();
        let mut seen = seen.into_inner().unwrap();
        seen.extend(events.try_iter().map(|event| event.kind));
        balance(&report);
        (report, seen, folder)
    }
}

/// Promise P1.
#[track_caller]
pub(crate) fn balance(report: &Report) {
    for edge in &report.edges {
        let discarded: u64 = edge.discarded.iter().map(|discarded| discarded.records).sum();
        let out = edge.delivered + edge.failed + edge.dropped + discarded;
        assert_eq!(edge.records_in, out, "the books of {edge:#?}");
    }
}

fn pipeline(text: &str, folder: &TempDir) -> Pipeline {
    let path = folder.path().join("pipeline.yaml");
    Pipeline::from_yaml_with(text, &path, &ParseOptions::of_this_process())
        .unwrap_or_else(|diagnostics| panic!("{text}\n{}", diagnostics.plain()))
}
