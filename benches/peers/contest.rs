//! Contenders side by side, round after round.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::input;
use crate::options::Options;

/// What every row needs.
pub(crate) struct Context {
    folder: TempDir,
    pub(crate) quick: bool,
}

impl Context {
    pub(crate) fn new(options: &Options) -> Self {
        Self { folder: input::folder(), quick: options.quick }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of two sizes.
    pub(crate) fn size(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

/// Of every contender and its workers: otherwise a third of what `/bin/true` costs is to look for its locale.
pub(crate) const LOCALE: (&str, &str) = ("LC_ALL", "C");

/// A row that can be run.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) make: fn(&Context) -> Result<Contest, String>,
}

/// What a number means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// Of work done in the seconds that were measured: the amount, and what it is counted in.
    Rate(f64, &'static str),
    /// The seconds that were measured, in milliseconds.
    Millis,
    /// The same in microseconds.
    Micros,
    /// Measured bytes, in MB.
    Megabytes,
}

impl Unit {
    /// What is shown for a measured cost.
    pub(crate) fn show(self, cost: f64) -> f64 {
        match self {
            Self::Rate(amount, _) => amount / cost,
            Self::Millis => cost * 1e3,
            Self::Micros => cost * 1e6,
            Self::Megabytes => cost / 1e6,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate(_, name) => name,
            Self::Millis => "ms",
            Self::Micros => "µs",
            Self::Megabytes => "MB",
        }
    }
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// The ratio to this peer.
    Ratio(f64),
    /// The number shown for the engine itself.
    AtMost(f64),
    /// The same of what should be much.
    AtLeast(f64),
}

/// How a target was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Near,
    Missed,
}

impl Verdict {
    /// `reached`: the part of the target, where more is better.
    fn of(reached: f64) -> Self {
        match reached {
            _ if reached >= 1.0 => Self::Met,
            _ if reached >= 1.0 / 1.5 => Self::Near,
            _ => Self::Missed,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Near => "within 1.5×",
            Self::Missed => "missed",
        }
    }
}

/// A cost in the unit's measure (seconds or bytes), or why the run was wrong.
pub(crate) type Cost = Result<f64, String>;

/// One who does the work.
pub(crate) struct Contender {
    name: String,
    target: Option<Target>,
    run: Box<dyn FnMut() -> Cost>,
}

/// The engine and its peers at the same work.
pub(crate) struct Contest {
    unit: Unit,
    /// How the engine itself is to be, whatever the peers are.
    target: Option<Target>,
    ours: Box<dyn FnMut() -> Cost>,
    peers: Vec<Contender>,
    missing: Vec<String>,
    /// Several short runs of each contender make one round.
    repeats: usize,
}

impl Contest {
    pub(crate) fn new(unit: Unit, ours: impl FnMut() -> Cost + 'static) -> Self {
        Self { unit, target: None, ours: Box::new(ours), peers: Vec::new(), missing: Vec::new(), repeats: 1 }
    }

    pub(crate) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(Target::AtMost(target));
        self
    }

    pub(crate) fn at_least(mut self, target: f64) -> Self {
        self.target = Some(Target::AtLeast(target));
        self
    }

    pub(crate) fn repeats(mut self, repeats: usize) -> Self {
        self.repeats = repeats;
        self
    }

    /// A peer, whose program must be there.
    pub(crate) fn peer(
        mut self,
        name: &str,
        program: &str,
        target: impl Into<Option<f64>>,
        run: impl FnMut() -> Cost + 'static,
    ) -> Self {
        if is_there(program) {
            let target = target.into().map(Target::Ratio);
            self.peers.push(Contender { name: name.to_owned(), target, run: Box::new(run) });
        } else {
            self.missing.push(format!("{name} (no `{program}` here)"));
        }
        self
    }

    /// A peer that is a shell command, with `$1` for the input; timed as it is.
    pub(crate) fn shell(
        self,
        name: &str,
        program: &str,
        target: impl Into<Option<f64>>,
        script: &str,
        input: &Path,
    ) -> Self {
        let (script, input) = (script.to_owned(), input.to_owned());
        self.peer(name, program, target, move || {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", &script, "sh"])
                .arg(&input)
                .env(LOCALE.0, LOCALE.1)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            timed(&mut command).map(|time| time.as_secs_f64())
        })
    }

    /// Runs it: a round that does not count, so that programs and inputs are in memory, then the others.
    pub(crate) fn hold(mut self, row: Row, rounds: usize) -> Outcome {
        let mut ours = Vec::new();
        let mut peers: Vec<Vec<Cost>> = self.peers.iter().map(|_| Vec::new()).collect();
        for round in 0..=rounds {
            let cost = repeated(self.repeats, &mut self.ours);
            let costs: Vec<Cost> =
                self.peers.iter_mut().map(|peer| repeated(self.repeats, &mut peer.run)).collect();
            if let Err(reason) = &cost {
                eprintln!("#   the engine's run is wrong: {reason}");
                return Outcome {
                    row,
                    unit: self.unit,
                    ours: Err(reason.clone()),
                    lines: Vec::new(),
                    missing: self.missing,
                };
            }
            if round > 0 {
                ours.push(cost.unwrap());
                peers.iter_mut().zip(costs).for_each(|(peer, cost)| peer.push(cost));
            }
        }
        let our_cost = median(&mut ours.clone());
        let mut lines = Vec::new();
        if let Some(target) = self.target {
            lines.push(Line::alone(self.unit, our_cost, target));
        }
        for (peer, costs) in self.peers.into_iter().zip(peers) {
            let name = peer.name.clone();
            match costs.into_iter().collect::<Result<Vec<f64>, String>>() {
                Ok(costs) => lines.push(Line::beside(peer, &ours, &costs, self.unit)),
                Err(reason) => self.missing.push(format!("{name} ({reason})")),
            }
        }
        Outcome { row, unit: self.unit, ours: Ok(our_cost), lines, missing: self.missing }
    }
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) peer: Option<String>,
    /// What the peer's median is, in the row's unit.
    pub(crate) shown: Option<f64>,
    /// Median, least and greatest ratio; above 1 the engine is better.
    pub(crate) ratio: Option<[f64; 3]>,
    pub(crate) target: Option<Target>,
    pub(crate) verdict: Option<Verdict>,
}

impl Line {
    fn alone(unit: Unit, cost: f64, target: Target) -> Self {
        let verdict = match target {
            Target::AtMost(most) => Some(Verdict::of(most / unit.show(cost))),
            Target::AtLeast(least) => Some(Verdict::of(unit.show(cost) / least)),
            Target::Ratio(_) => None,
        };
        Self { peer: None, shown: None, ratio: None, target: Some(target), verdict }
    }

    fn beside(peer: Contender, ours: &[f64], theirs: &[f64], unit: Unit) -> Self {
        let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours).collect();
        let middle = median(&mut ratios);
        let ratio = [middle, ratios[0], *ratios.last().unwrap()];
        let verdict = match peer.target {
            Some(Target::Ratio(target)) => Some(Verdict::of(middle / target)),
            _ => None,
        };
        Self {
            peer: Some(peer.name),
            shown: Some(unit.show(median(&mut theirs.to_vec()))),
            ratio: Some(ratio),
            target: peer.target,
            verdict,
        }
    }
}

/// What came of a row.
pub(crate) struct Outcome {
    pub(crate) row: Row,
    pub(crate) unit: Unit,
    /// The engine's median cost.
    pub(crate) ours: Cost,
    pub(crate) lines: Vec<Line>,
    pub(crate) missing: Vec<String>,
}

fn repeated(repeats: usize, run: &mut dyn FnMut() -> Cost) -> Cost {
    let mut costs = (0..repeats).map(|_| run()).collect::<Result<Vec<f64>, String>>()?;
    Ok(median(&mut costs))
}

/// Sorts, and takes the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

/// From before the start to after the end of a command that must succeed.
pub(crate) fn timed(command: &mut Command) -> Result<Duration, String> {
    let start = Instant::now();
    let status = command.stderr(Stdio::inherit()).status().map_err(|error| error.to_string())?;
    let time = start.elapsed();
    if status.success() { Ok(time) } else { Err(format!("it ended with {status}")) }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
