//! A run that follows its document: reads it again when that is asked for, or when a file has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, never};
use mpflow::change::{Reloaded, SteerError};
use mpflow::control::ReloadRequest;
use mpflow::language::Diagnostics;
use mpflow::observe::{self, Look};
use mpflow::report::Report;
use mpflow::watch::{Changed, Known, Told, WatchSet, Watcher};
use mpflow::{Engine, Pipeline, Run};

use super::console::Console;
use crate::cli::error::CliError;
use crate::cli::load::{self, Overrides, Source};
use crate::cli::show;

/// The clock of files is coarse: one that seems to be so much older than a moment may be younger.
const COARSE: Duration = Duration::from_millis(20);

/// What comes of the newest reload.
type Answer = Result<Reloaded, SteerError>;

/// See the module's description. It lives as long as `mpflow run`, through one run after the other.
pub(super) struct Reloader<'a> {
    engine: &'a Engine,
    source: &'a Source,
    overrides: &'a Overrides,
    watcher: Option<Watcher>,
    /// Of the document that is in effect, or was the last that could be.
    pipeline: Option<Pipeline>,
    /// By stage: files that its workers were found to run.
    imported: BTreeMap<String, BTreeSet<PathBuf>>,
    /// Stages whose files have changed since the last reload that has taken effect, and why each is touched.
    touched: BTreeMap<String, String>,
    /// Of the newest reload that is under way.
    answers: Receiver<Answer>,
    /// Whoever asked for it from outside.
    requests: Vec<ReloadRequest>,
    /// When workers were last started from what the files held then.
    began_at: SystemTime,
    /// What that was, where nobody watches.
    known: Option<Known>,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(engine: &'a Engine, source: &'a Source, overrides: &'a Overrides) -> Self {
        Self {
            engine,
            source,
            overrides,
            watcher: None,
            pipeline: None,
            imported: BTreeMap::new(),
            touched: BTreeMap::new(),
            answers: never(),
            requests: Vec::new(),
            began_at: SystemTime::now(),
            known: None,
        }
    }

    /// Watches the document from now on, whatever is in it.
    pub(super) fn watch(&mut self, polls: bool) -> Result<(), CliError> {
        let set = WatchSet::of_document(&self.document());
        let watcher = if polls { Watcher::start_polling(set) } else { Watcher::start(set) };
        self.watcher = Some(watcher.map_err(CliError::Thread)?);
        Ok(())
    }

    /// The document's path, absolute.
    pub(super) fn document(&self) -> PathBuf {
        let path = self.source.path().unwrap_or(Path::new(""));
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
    }

    /// What was wrong in the pipeline that ran, as only its start could show.
    pub(super) fn diagnose(&self, report: &Report) -> Diagnostics {
        let problems = report.outcome.problems().cloned().collect();
        self.pipeline.as_ref().map(|pipeline| pipeline.diagnose(problems)).unwrap_or_default()
    }

    /// What the watcher tells, if there is one.
    pub(super) fn told(&self) -> Receiver<Told> {
        self.watcher.as_ref().map_or_else(never, |watcher| watcher.told().clone())
    }

    /// The answer to the newest reload.
    pub(super) fn answers(&self) -> Receiver<Answer> {
        self.answers.clone()
    }

    /// Reads the pipeline, or what is wrong with it.
    pub(super) fn load(&mut self) -> Result<Result<Pipeline, Diagnostics>, CliError> {
        self.began_at = SystemTime::now();
        let pipeline = match load::load(self.source, self.overrides)? {
            Ok(pipeline) => pipeline,
            Err(diagnostics) => return Ok(Err(diagnostics)),
        };
        self.watch_files_of(&pipeline);
        let diagnostics = self.engine.check(&pipeline);
        Ok(if diagnostics.has_errors() { Err(diagnostics) } else { Ok(pipeline) })
    }

    /// This pipeline is run from now on.
    pub(super) fn runs(&mut self, pipeline: &Pipeline) {
        self.pipeline = Some(pipeline.clone());
        self.know_files_of(pipeline);
        self.touched.clear();
        self.answers = never();
    }

    fn watch_files_of(&self, pipeline: &Pipeline) {
        if let Some(watcher) = &self.watcher {
            watcher.update(self.files_of(pipeline));
        }
    }

    /// The files of a pipeline, with what its workers were found to run.
    fn files_of(&self, pipeline: &Pipeline) -> WatchSet {
        let mut set = pipeline.watch_set();
        for (stage, file) in
            self.imported.iter().flat_map(|(stage, files)| files.iter().map(move |file| (stage, file)))
        {
            set.add(stage, file);
        }
        set
    }

    /// Workers are about to be started from these files, of which nobody else will tell what becomes of them.
    fn know_files_of(&mut self, pipeline: &Pipeline) {
        self.known = self.watcher.is_none().then(|| self.files_of(pipeline).known());
    }

    /// Which files have changed that nobody watches.
    fn look_at_files(&mut self) {
        if let (Some(pipeline), Some(known)) = (&self.pipeline, &self.known) {
            let changed = self.files_of(pipeline).changed_since(known);
            self.touched(changed);
        }
    }

    fn touched(&mut self, files: BTreeMap<String, String>) {
        let reasons = files.into_iter().map(|(stage, file)| (stage, format!("{file} has changed")));
        self.touched.extend(reasons);
    }

    /// Workers of a stage were found to run these files. Whether one of them has changed since they were started.
    pub(super) fn found(&mut self, stage: &str, files: &[String]) -> bool {
        let mut has_changed = false;
        for file in files.iter().map(PathBuf::from) {
            let changed_at = file.metadata().and_then(|file| file.modified());
            // Without a watcher that is looked at when a reload is asked for.
            if self.watcher.is_some() && changed_at.is_ok_and(|at| at > self.began_at + COARSE) {
                self.touched.insert(stage.to_owned(), format!("{} has changed", file.display()));
                has_changed = true;
            }
            self.imported.entry(stage.to_owned()).or_default().insert(file);
        }
        if let Some(pipeline) = &self.pipeline {
            self.watch_files_of(pipeline);
        }
        has_changed
    }

    /// Files have changed.
    pub(super) fn changed(&mut self, changed: Changed) {
        self.touched(changed.stages);
    }

    /// Somebody wants to know what comes of the next reload.
    pub(super) fn wants(&mut self, request: ReloadRequest) {
        self.requests.push(request);
    }

    /// Reads the document and has the run become what it says. Waits for nothing.
    pub(super) fn begin(&mut self, run: &Run, console: &Console) {
        self.look_at_files();
        let pipeline = match self.load() {
            Ok(Ok(pipeline)) => pipeline,
            Ok(Err(diagnostics)) => {
                console.pause();
                show::diagnostics(&diagnostics);
                return self.refuse(console, "the pipeline is wrong", Some(&diagnostics));
            }
            Err(error) => return self.refuse(console, &error.to_string(), None),
        };
        // What has changed since is among those touched until a reload has taken effect.
        self.know_files_of(&pipeline);
        match run.begin_reload(&pipeline, self.touched.clone()) {
            Ok(answers) => {
                self.answers = answers;
                self.pipeline = Some(pipeline);
            }
            Err(error) => self.refuse(console, &error.to_string(), None),
        }
    }

    /// What is wrong with the document has been shown here, and whoever asked from elsewhere is to know it too.
    fn refuse(&mut self, console: &Console, why: &str, wrong: Option<&Diagnostics>) {
        console.say(format!("not reloaded, and the run goes on as it was: {why}"));
        match wrong {
            Some(wrong) => {
                let shown = show::text(wrong, Look::PLAIN);
                for request in self.requests.drain(..) {
                    let why = format!("the run goes on as it was: {why}\n\n{}", shown.trim_end());
                    request.refuse_document(why, wrong.to_json());
                }
            }
            None => self.answer_no(why),
        }
    }

    /// The newest reload has been answered.
    pub(super) fn answered(&mut self, answer: Option<Answer>, console: &Console) {
        self.answers = never();
        match answer {
            Some(Ok(reloaded)) => {
                self.touched.clear();
                let took = observe::duration(reloaded.took);
                match reloaded.change.is_nothing() {
                    true => console.say("read again: nothing has changed"),
                    false => console.say(format!("reloaded in {took}: {}", reloaded.change)),
                }
                self.requests.drain(..).for_each(|request| request.answer(Ok(reloaded.clone())));
            }
            Some(Err(SteerError::RunEnded)) | None => self.requests.clear(),
            // What it is about has been told as it happened.
            Some(Err(error @ SteerError::NotUp(_))) => self.answer_no(&error.to_string()),
            Some(Err(error)) => self.refuse(console, &error.to_string(), None),
        }
    }

    fn answer_no(&mut self, why: &str) {
        for request in self.requests.drain(..) {
            request.answer(Err(format!("the run goes on as it was: {why}")));
        }
    }
}
