//! What each request does.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use super::connection::Connection;
use super::protocol::{self, Refusal, Request};
use super::server::{Doing, NotReloaded, ReloadRequest, Shared};
use super::{sampled, usage};
use crate::change::SteerError;
use crate::model::nearest;
use crate::report::{LogLine, Snapshot, StageSnapshot};
use crate::runtime::run::{Ended, Sample, TapError};
use crate::runtime::supervisor::Level;

/// A client that follows is looked at so often, whether it is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Lines of the log that are given where nobody says how many.
const LINES: usize = 100;

/// Lines that go in one notification.
const LINES_TOGETHER: usize = 1000;

impl From<Ended> for Refusal {
    fn from(_: Ended) -> Self {
        Self::ended()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsParams {
    stage: Option<String>,
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TapParams {
    edge: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum How {
    #[default]
    Drain,
    Terminate,
    Kill,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopParams {
    #[serde(default)]
    how: How,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleParams {
    stage: String,
    workers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestartParams {
    what: String,
}

impl From<SteerError> for Refusal {
    fn from(error: SteerError) -> Self {
        let reason = match &error {
            SteerError::Unknown { .. } => "unknown_stage",
            SteerError::NoWorkers => "no_workers",
            SteerError::TooManyWorkers(_) => "too_many_workers",
            SteerError::NamesRank { .. } => "names_rank",
            SteerError::StageEnded(_) => "stage_ended",
            SteerError::RunEnded => "run_ended",
            SteerError::Missing(_) => "not_up",
            SteerError::GivenUp { .. } => "given_up",
            SteerError::NotUp(_) => "new_not_up",
            SteerError::NewRun(_) => "new_run",
            SteerError::Sdk(_) => "sdk",
        };
        let refusal = Self::cannot(reason, error.to_string());
        match error {
            SteerError::Unknown { names, .. } if !names.is_empty() => refusal.help(there_are(&names)),
            _ => refusal,
        }
    }
}

impl Shared {
    /// Does what a client asks and answers it. The error: the client is gone.
    pub(super) fn obey(
        &self,
        number: u64,
        request: &Request,
        connection: &mut Connection<'_>,
    ) -> io::Result<()> {
        self.note(number, Doing::Obeying).map_err(io::Error::other)?;
        let outcome = match request.method.as_str() {
            "logs" => self.logs(number, request, connection)?,
            "tap" => self.tap(number, request, connection)?,
            "wait" => self.wait(number, request, connection),
            method => Some(self.answer_once(method, request)),
        };
        if let Some(result) = outcome {
            connection.write(&protocol::answer(&request.id, &result))?;
        }
        self.note(number, Doing::Nothing).map_err(io::Error::other)
    }

    /// Requests that have one answer and no more.
    fn answer_once(&self, method: &str, request: &Request) -> Result<Value, Refusal> {
        match method {
            "describe" => {
                let Nothing {} = request.params()?;
                Ok(self.describe(&self.handle.snapshot()?))
            }
            "status" => {
                let Nothing {} = request.params()?;
                let mut snapshot = self.handle.snapshot()?;
                usage::measure(&mut snapshot);
                let mut status =
                    serde_json::to_value(&snapshot).expect("its keys are strings and its numbers finite");
                status["run"] = self.describe(&snapshot);
                Ok(status)
            }
            "explain" => {
                let Nothing {} = request.params()?;
                Ok(json!({"lines": self.handle.explanation()?}))
            }
            "stop" => {
                let StopParams { how } = request.params()?;
                let level = match how {
                    How::Drain => Level::Drain,
                    How::Terminate => Level::Terminate,
                    How::Kill => Level::Kill,
                };
                self.handle.stop(level)?;
                Ok(json!({"how": level.as_str()}))
            }
            "scale" => {
                let ScaleParams { stage, workers } = request.params()?;
                self.handle.scale(&stage, workers)?;
                Ok(json!({"stage": stage, "workers": workers}))
            }
            "restart" => {
                let RestartParams { what } = request.params()?;
                let replaced = self.handle.restart(&what)?;
                Ok(json!({"what": what, "replaced": replaced}))
            }
            "reload" => {
                let Nothing {} = request.params()?;
                self.reload()
            }
            method => Err(Refusal::unknown_method(method)),
        }
    }

    /// Has the run's owner read its pipeline again, and waits until that has taken effect.
    fn reload(&self) -> Result<Value, Refusal> {
        let Some(reloads) = &self.about.reloads else {
            return Err(Refusal::cannot("no_document", "this run has no document that could be read again"));
        };
        let (answer, answered) = crossbeam_channel::bounded(1);
        reloads.send(ReloadRequest(answer)).map_err(|_| Refusal::ended())?;
        match answered.recv().map_err(|_| Refusal::ended())? {
            Ok(reloaded) => {
                let mut value = serde_json::to_value(&reloaded.change)
                    .expect("its keys are strings and its numbers finite");
                value["summary"] = reloaded.change.to_string().into();
                Ok(json!({"took_seconds": reloaded.took.as_secs_f64(), "change": value}))
            }
            Err(NotReloaded { why, diagnostics }) => {
                let mut refusal = Refusal::cannot("not_reloaded", why);
                refusal.data.diagnostics = diagnostics.map(Box::new);
                Err(refusal)
            }
        }
    }

    fn describe(&self, snapshot: &Snapshot) -> Value {
        let about = &self.about;
        // By the wall clock, for people; the run itself does not look at it.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at = since_epoch.saturating_sub(about.began_at.elapsed());
        json!({
            "protocol": protocol::VERSION,
            "version": env!("CARGO_PKG_VERSION"),
            "id": about.run_id,
            "pipeline": snapshot.pipeline,
            "file": about.file_as_text(),
            "pid": std::process::id(),
            "started_at": started_at.as_secs(),
            "up_seconds": (about.began_at.elapsed().as_secs_f64() * 1e3).round() / 1e3,
            "state": snapshot.state,
            "stage_count": snapshot.stages.iter().filter(|stage| stage.in_effect).count(),
            "worker_count": snapshot.stages.iter().map(|stage| stage.workers).sum::<usize>(),
        })
    }

    /// Waits for the end of the run. `None`: the client has gone.
    fn wait(
        &self,
        number: u64,
        request: &Request,
        connection: &Connection<'_>,
    ) -> Option<Result<Value, Refusal>> {
        let may = request.params::<Nothing>().and_then(|Nothing {}| self.note(number, Doing::Following));
        if let Err(refusal) = may {
            return Some(Err(refusal));
        }
        loop {
            if let Some(ended) = self.keeper.ended_within(LOOK) {
                return Some(Ok(ended));
            }
            if connection.wants_no_more() && !self.is_closing() {
                return None;
            }
        }
    }

    fn logs(
        &self,
        number: u64,
        request: &Request,
        connection: &mut Connection<'_>,
    ) -> io::Result<Option<Result<Value, Refusal>>> {
        let LogsParams { stage, lines, follow } = match request.params() {
            Ok(params) => params,
            Err(refusal) => return Ok(Some(Err(refusal))),
        };
        if let Some(stage) = &stage
            && let Err(refusal) = self.check_stage(stage)
        {
            return Ok(Some(Err(refusal)));
        }
        let wanted = |line: &LogLine| {
            let of = line.worker.split('/').next();
            stage.as_deref().is_none_or(|stage| of == Some(stage) || line.worker == stage)
        };
        let mut news = self.keeper.lines(0, lines.unwrap_or(LINES), wanted);
        let answer = json!({"lines": news.lines, "missed": news.missed});
        if !follow {
            return Ok(Some(Ok(answer)));
        }
        if let Err(refusal) = self.note(number, Doing::Following) {
            return Ok(Some(Err(refusal)));
        }
        connection.write(&protocol::answer(&request.id, &Ok(answer)))?;
        while !news.has_ended {
            self.keeper.wait_for(news.next, LOOK);
            news = self.keeper.lines(news.next, LINES_TOGETHER, wanted);
            if !news.lines.is_empty() || news.missed > 0 {
                let params = json!({"lines": news.lines, "missed": news.missed});
                connection.write(&protocol::notification("log", &params))?;
            } else if connection.wants_no_more() && !self.is_closing() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        self.tell_end(connection)?;
        Ok(None)
    }

    fn check_stage(&self, name: &str) -> Result<(), Refusal> {
        let stages = self.handle.snapshot()?.stages;
        let is_one =
            |stage: &StageSnapshot| stage.stage == name || stage.slots.iter().any(|slot| slot.worker == name);
        if stages.iter().any(is_one) {
            return Ok(());
        }
        let names: Vec<&str> = stages.iter().map(|stage| stage.stage.as_str()).collect();
        Err(unknown("stage", name, &names))
    }

    fn tap(
        &self,
        number: u64,
        request: &Request,
        connection: &mut Connection<'_>,
    ) -> io::Result<Option<Result<Value, Refusal>>> {
        let opened = request.params().and_then(|TapParams { edge }| {
            self.note(number, Doing::Following)?;
            self.open_tap(&edge)
        });
        let samples = match opened {
            Ok(samples) => samples,
            Err(refusal) => return Ok(Some(Err(refusal))),
        };
        connection.write(&protocol::answer(&request.id, &Ok(json!({}))))?;
        loop {
            match samples.recv_timeout(LOOK) {
                Ok(sample) => connection.write(&protocol::notification("records", &shown(&sample)))?,
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
            }
            if connection.wants_no_more() && !self.is_closing() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        self.tell_end(connection)?;
        Ok(None)
    }

    fn open_tap(&self, edge: &str) -> Result<crossbeam_channel::Receiver<Sample>, Refusal> {
        match self.handle.tap(edge)? {
            Ok(samples) => Ok(samples),
            Err(TapError::Pipe) => Err(Refusal::cannot(
                "pipe",
                format!("`{edge}` is a pipe: its bytes go from one process to the other, past the engine"),
            )
            .help("make it a `queue` to look at what passes")),
            Err(TapError::Unknown(names)) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(unknown("edge", edge, &names))
            }
        }
    }

    /// The last notification of whoever follows: how the run has ended.
    fn tell_end(&self, connection: &mut Connection<'_>) -> io::Result<()> {
        let ended = self.keeper.ended_within(LOOK).unwrap_or(Value::Null);
        connection.write(&protocol::notification("ended", &ended))
    }
}

/// There is nothing of this name; the nearest one, or all.
fn unknown(what: &str, name: &str, names: &[&str]) -> Refusal {
    let message = format!("there is no {what} `{name}` in this run");
    let refusal = Refusal::cannot(&format!("unknown_{what}"), message);
    match nearest(name, names.iter().copied()) {
        Some(near) => refusal.help(format!("did you mean `{near}`? {}", there_are(names))),
        None if names.is_empty() => refusal,
        None => refusal.help(there_are(names)),
    }
}

fn there_are(names: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match &names[..] {
        [only] => format!("there is {only}"),
        _ => format!("there are {}", names.join(", ")),
    }
}

fn shown(sample: &Sample) -> Value {
    let records: Vec<Value> =
        sample.records.iter().flat_map(|record| sampled::show(sample, record)).collect();
    json!({"records": records, "not_shown": sample.not_shown})
}
