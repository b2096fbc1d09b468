//! `mpflow run`: runs a pipeline.

mod bars;
mod console;
mod drive;
mod events;
mod files;
mod presses;
mod reloader;
mod signals;
mod watching;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::{ValueEnum, ValueHint};
use crossbeam_channel::{Receiver, select};
use mpflow::language::Diagnostics;
use mpflow::report::{Outcome, Report};
use mpflow::{Engine, Pipeline, StartError, Stdio};

use super::error::CliError;
use super::exit::{End, Interrupt};
use super::load::{self, Overrides, Source};
use super::{is_logging, show, terminal};
use console::{Console, Progress};
use drive::{Driven, Driver};
use events::EventsThread;
use files::ReportFile;
use presses::Presses;
use reloader::Reloader;
use signals::Request;

/// Run a pipeline
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow run pipeline.yaml
  seq 1 100 | mpflow run squares.yaml > squares.txt
  mpflow run words.yaml --set files='*.txt' --pool count=8
  mpflow run nightly.yaml --progress none --report report.json --events events.ndjson

Signals: the first Ctrl-C (SIGINT) stops the sources and finishes what is in flight; the second, or \
SIGTERM, sends every worker its stop signal and kills it after its grace period; the third kills all \
at once. Ctrl-Z suspends the workers too.

Exit codes: 0 all went well, 1 a stage failed, 2 the command line or the pipeline is wrong, \
130 interrupted (SIGINT), 143 terminated (SIGTERM).")]
pub(super) struct Args {
    /// The pipeline
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Source,
    #[command(flatten)]
    overrides: Overrides,
    /// Follow the pipeline's files: what changes is reloaded, and what has finished runs again
    #[arg(long)]
    watch: bool,
    /// With --watch: look at the files twice a second, where nobody tells of changes that others make
    #[arg(long, requires = "watch")]
    poll: bool,
    /// What is shown on standard error while it runs
    #[arg(long, value_enum, default_value_t = ProgressChoice::Auto, value_name = "HOW")]
    progress: ProgressChoice,
    /// Show only what fails, as `--progress none` does
    #[arg(short, long, conflicts_with = "progress")]
    quiet: bool,
    /// Write what came of the run to this file, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,
    /// Write every start, exit, restart and line of a worker to this file as it happens, one JSON document a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    events: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressChoice {
    /// A live table on a terminal where no data is shown; elsewhere only a summary at the end
    Auto,
    /// A line every five seconds, and a summary at the end
    Plain,
    /// Only what fails, and what workers write to their standard error
    None,
}

pub(super) fn execute(args: Args) -> Result<End, CliError> {
    refuse_what_cannot_be(&args)?;
    let engine = Engine::new().stdin(Stdio::Inherit).stdout(Stdio::Inherit);
    let reloader = Reloader::new(&engine, &args.file, &args.overrides);
    if args.watch { watching::execute(&args, &engine, reloader) } else { once(&args, &engine, reloader) }
}

/// Runs it to its end.
fn once(args: &Args, engine: &Engine, mut reloader: Reloader<'_>) -> Result<End, CliError> {
    let Some(pipeline) = show::right(load::load(&args.file, &args.overrides)?) else {
        return Ok(End::Wrong);
    };
    let diagnostics = engine.check(&pipeline);
    let progress = progress_for(args, &pipeline);
    if diagnostics.has_errors() || progress != Progress::Failures {
        show::diagnostics(&diagnostics);
    }
    if diagnostics.has_errors() {
        return Ok(End::Wrong);
    }
    // The files first: a wrong path starts nothing.
    let mut files = Files::create(args)?;
    // Caught before the start: a signal that comes during it is obeyed as soon as there is a run to stop.
    let requests = signals::catch()?;
    mpflow::adopt_orphans().map_err(StartError::System)?;
    let ended = start(engine, &pipeline, progress, &mut files, &requests, &mut reloader)?;
    files.close(&requests, ended)
}

fn refuse_what_cannot_be(args: &Args) -> Result<(), CliError> {
    let Source::File(pipeline) = &args.file else {
        return Err(CliError::RunStdin);
    };
    for (option, path) in [("--report", &args.report), ("--events", &args.events)] {
        let Some(path) = path else { continue };
        if path == Path::new("-") {
            return Err(CliError::NoFileName { option });
        }
        if is_same(path, pipeline) {
            return Err(CliError::Overwrites { option, path: path.clone() });
        }
    }
    match (&args.report, &args.events) {
        (Some(report), Some(events)) if is_same(report, events) => Err(CliError::SameFile(report.clone())),
        _ => Ok(()),
    }
}

/// Whether both names are of one file, which may not exist yet. Devices may take what they get from both.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other && one.is_file(),
        _ => one == other,
    }
}

/// The files that the run is to leave.
struct Files {
    report: Option<(PathBuf, ReportFile)>,
    events: Option<(EventsThread, Receiver<()>)>,
    /// Something could not be written.
    is_failed: bool,
}

impl Files {
    fn create(args: &Args) -> Result<Self, CliError> {
        let events = match &args.events {
            Some(path) => Some(EventsThread::start(path, files::create_events(path)?)?),
            None => None,
        };
        Ok(Self { report: Self::report(args)?, events, is_failed: false })
    }

    fn report(args: &Args) -> Result<Option<(PathBuf, ReportFile)>, CliError> {
        args.report.as_ref().map(|path| Ok((path.clone(), ReportFile::create(path)?))).transpose()
    }

    fn write_report(&mut self, report: &Report, console: &Console) {
        if let Some((path, file)) = self.report.take()
            && let Err(error) = file.write(report)
        {
            console.say(format!("cannot write the report to `{}`: {error}", path.display()));
            self.is_failed = true;
        }
    }

    /// Waits until all is written. What is still to be written may take its time, but must not take this process with it: a
    /// signal ends it.
    fn close(mut self, requests: &Receiver<Request>, ended: Ended) -> Result<End, CliError> {
        if let Some((mut events, done)) = self.events.take() {
            events.close();
            if let Some(interrupt) = wait(&done, requests) {
                return Ok(End::Interrupted(interrupt));
            }
            if let Some(message) = events.failure() {
                show::notice(&message);
            }
            self.is_failed |= events.is_failed();
        }
        if ended.wrong.has_errors() {
            // Last, so that nothing comes between it and the prompt: it says where in the document it is.
            show::diagnostics(&ended.wrong);
        }
        Ok(ended.end.but_failed_if(self.is_failed))
    }
}

/// What came of one run.
struct Ended {
    end: End,
    /// A signal wanted it to end.
    interrupt: Option<Interrupt>,
    /// Somebody wanted it to end, by whatever means.
    was_stopped: bool,
    /// What only its start could show to be wrong in the pipeline.
    wrong: Diagnostics,
}

/// Runs a pipeline that nothing speaks against any more, to its end.
fn start(
    engine: &Engine,
    pipeline: &Pipeline,
    progress: Progress,
    files: &mut Files,
    requests: &Receiver<Request>,
    reloader: &mut Reloader<'_>,
) -> Result<Ended, CliError> {
    let (mut console, console_done) = Console::start(pipeline.name(), progress)?;
    reloader.runs(pipeline);
    let mut run = engine.start(pipeline)?;
    let (reloads_to, reloads) = crossbeam_channel::unbounded();
    if let Err(error) = run.open_control(Some(reloader.document()), Some(reloads_to)) {
        console.say(format!("the run cannot be steered from outside: no control socket: {error}"));
    }
    let events = files.events.as_mut().map(|(events, _)| events);
    let driver = Driver {
        requests,
        console: &mut console,
        events,
        progress,
        reloader: &mut *reloader,
        reloads: &reloads,
        presses: Presses::default(),
        was_stopped: false,
    };
    let Driven { report, presses, was_stopped } = driver.drive(run);

    // The run is over and nothing of it is left.
    let (mut end, mut interrupt) = (end_of(&report.outcome, presses), presses.interrupt());
    let wrong = reloader.diagnose(&report);
    if wrong.has_errors() {
        end = End::Wrong;
    }
    files.write_report(&report, &console);
    console.end(report);
    if let Some(late) = wait(&console_done, requests) {
        end = End::Interrupted(late);
        interrupt = Some(late);
    }
    Ok(Ended { end, interrupt, was_stopped, wrong })
}

/// Waits for a thread that writes, or for a signal that ends all.
fn wait(done: &Receiver<()>, requests: &Receiver<Request>) -> Option<Interrupt> {
    loop {
        select! {
            recv(done) -> _ => return None,
            recv(requests) -> request => match request {
                Ok(Request::End(interrupt)) => return Some(interrupt),
                // The shell wants its terminal back; if that fails, this process is about to end anyway.
                Ok(Request::Suspend) => drop(signals::stop_ourselves()),
                Ok(Request::Reload | Request::Explain | Request::Continue) => {}
                Err(_) => return None,
            },
        }
    }
}

/// How `mpflow` ends after a run. A failure stays one if the run was also stopped: a script that ends what it has
/// started still wants to know.
fn end_of(outcome: &Outcome, presses: Presses) -> End {
    match outcome {
        Outcome::Succeeded => End::Success,
        // Without a signal it was another process that asked, by `mpflow stop`.
        Outcome::Stopped { .. } => End::Interrupted(presses.interrupt().unwrap_or(Interrupt::Term)),
        _ => End::Failed,
    }
}

/// How progress is shown: by the option, by where standard error goes, and by whether data shares its terminal.
fn progress_for(args: &Args, pipeline: &Pipeline) -> Progress {
    let is_shared = pipeline.writes_stdout() && io::stdout().is_terminal();
    // The engine's diary is written past the console, and would tear the table.
    let can_be_live = terminal::stderr().is_terminal && !is_shared && !is_logging();
    match args.progress {
        _ if args.quiet => Progress::Failures,
        ProgressChoice::None => Progress::Failures,
        ProgressChoice::Plain => Progress::Lines,
        ProgressChoice::Auto if can_be_live => Progress::Live,
        ProgressChoice::Auto => Progress::Summary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_was_stopped_ends_by_the_signal_that_stopped_it() {
        let mut presses = Presses::default();
        let stopped = Outcome::Stopped { level: "drain".to_owned() };
        assert_eq!(end_of(&stopped, presses), End::Interrupted(Interrupt::Term), "by `mpflow stop`");
        assert!(presses.press(Interrupt::Int).stop.is_some());
        assert_eq!(end_of(&stopped, presses), End::Interrupted(Interrupt::Int));
        assert!(presses.press(Interrupt::Term).stop.is_some());
        assert_eq!(end_of(&stopped, presses), End::Interrupted(Interrupt::Term));
        assert_eq!(end_of(&Outcome::Succeeded, presses), End::Success);
        assert_eq!(end_of(&Outcome::Failed { failures: Vec::new() }, presses), End::Failed);
    }
}
