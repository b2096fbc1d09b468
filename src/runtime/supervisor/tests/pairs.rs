//! Which event has met a worker in which state.

use std::collections::BTreeSet;

use super::super::*;

/// States of a slot.
pub(super) const STATES: [&str; 9] =
    ["vacant", "starting", "running", "finishing", "stopping", "killed", "draining", "backing off", "done"];

/// Events that come late: of a generation that has gone before.
const LATE: [&str; 6] = [
    "late started",
    "late start failed",
    "late exited",
    "late group ended",
    "late outputs ended",
    "late loaded",
];

/// Events of the whole stage or run, which meet every slot of it in whatever state that is.
const WIDE: [&str; 18] = [
    "grow",
    "resize",
    "restart",
    "prepare",
    "stand by",
    "begin prepared",
    "withdraw",
    "give up fallen",
    "commit",
    "work done",
    "unwanted",
    "fail",
    "broken",
    "drain",
    "terminate",
    "kill",
    "launcher lost",
    "tick",
];

/// Every pair that can be: the table of the state machine.
pub(super) fn possible() -> BTreeSet<(&'static str, &'static str)> {
    let process = ["running", "finishing", "stopping", "killed"];
    let with_draining = ["running", "finishing", "stopping", "killed", "draining"];
    let with_starting = ["starting", "running", "finishing", "stopping", "killed"];
    let own: [(&str, &[&'static str]); 13] = [
        ("started", &["starting"]),
        ("start failed", &["starting"]),
        ("exited", &process),
        ("group ended", &process),
        ("outputs ended", &with_draining),
        ("ready", &with_draining),
        ("loaded", &with_draining),
        ("retire", &with_draining),
        ("fault", &with_draining),
        // The loop asks for a process in a slot that it believes free; the supervisor may have just thought otherwise.
        ("demand", &STATES),
        ("successor asked", &with_starting),
        ("successor revoked", &STATES),
        ("successor runs", &["vacant"]),
    ];
    let own = own.into_iter().flat_map(|(event, states)| states.iter().map(move |&state| (state, event)));
    let anywhere = LATE.into_iter().chain(WIDE);
    let anywhere = anywhere.flat_map(|event| STATES.map(move |state| (state, event)));
    let begin = [("vacant", "begin")];
    own.chain(anywhere).chain(begin).collect()
}

/// The pairs that have come.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Seen {
    /// This event is about to come.
    pub(super) fn note(&mut self, supervisor: &Supervisor, input: &Input) {
        let of_worker = |worker: &Worker, own: &'static str, late: &'static str| {
            let slot = &supervisor.stages[worker.stage].slots[worker.rank];
            (state(slot), if slot.generation() == Some(worker.generation) { own } else { late })
        };
        let of_slot = |stage: usize, rank: usize, event: &'static str| {
            (state(&supervisor.stages[stage].slots[rank]), event)
        };
        let pair = match input {
            Input::Started { worker, .. } => of_worker(worker, "started", LATE[0]),
            Input::StartFailed { worker, .. } => of_worker(worker, "start failed", LATE[1]),
            Input::Exited { worker, .. } => of_worker(worker, "exited", LATE[2]),
            Input::GroupEnded { worker } => of_worker(worker, "group ended", LATE[3]),
            Input::OutputsEnded { worker } => of_worker(worker, "outputs ended", LATE[4]),
            Input::Ready { worker, .. } => of_worker(worker, "ready", "late ready"),
            Input::Retire { worker, .. } => of_worker(worker, "retire", "late retire"),
            Input::Fault { worker, .. } => of_worker(worker, "fault", "late fault"),
            Input::Demand { stage, rank } => of_slot(*stage, *rank, "demand"),
            Input::SuccessorAsked { stage, rank } => of_slot(*stage, *rank, "successor asked"),
            Input::SuccessorRevoked { stage, rank } => of_slot(*stage, *rank, "successor revoked"),
            Input::SuccessorRuns { stage, rank } => of_slot(*stage, *rank, "successor runs"),
            Input::Grow { stage } => return self.wide(supervisor, Some(*stage), "grow"),
            Input::WorkDone { stage } => return self.wide(supervisor, Some(*stage), "work done"),
            Input::Unwanted { stage } => return self.wide(supervisor, Some(*stage), "unwanted"),
            Input::Loaded { worker } => of_worker(worker, "loaded", LATE[5]),
            Input::Broken { stage, .. } => return self.wide(supervisor, Some(*stage), "broken"),
            Input::Fail { stage, .. } => return self.wide(supervisor, Some(*stage), "fail"),
            Input::Begin => return self.wide(supervisor, None, "begin"),
            Input::Resize { stage, .. } => return self.wide(supervisor, Some(*stage), "resize"),
            Input::Restart { .. } => return self.wide(supervisor, None, "restart"),
            Input::Prepare(_) => return self.wide(supervisor, None, "prepare"),
            Input::StandBy(_) => return self.wide(supervisor, None, "stand by"),
            Input::BeginPrepared(_) => return self.wide(supervisor, None, "begin prepared"),
            Input::Withdraw(_) => return self.wide(supervisor, None, "withdraw"),
            Input::GiveUpFallen => return self.wide(supervisor, None, "give up fallen"),
            Input::Commit(_) => return self.wide(supervisor, None, "commit"),
            Input::Stop(level) => return self.wide(supervisor, None, level.as_str()),
            Input::LauncherLost => return self.wide(supervisor, None, "launcher lost"),
            Input::Tick => return self.wide(supervisor, None, "tick"),
        };
        self.pairs.insert(pair);
    }

    fn wide(&mut self, supervisor: &Supervisor, stage: Option<usize>, event: &'static str) {
        let stages = match stage {
            Some(stage) => &supervisor.stages[stage..=stage],
            None => &supervisor.stages[..],
        };
        for slot in stages.iter().flat_map(|stage| &stage.slots) {
            self.pairs.insert((state(slot), event));
        }
    }
}

fn state(slot: &Slot) -> &'static str {
    let position = match slot {
        Slot::Vacant => 0,
        Slot::Starting { .. } => 1,
        Slot::Running { .. } => 2,
        Slot::Finishing { .. } => 3,
        Slot::Stopping { .. } => 4,
        Slot::Killed { .. } => 5,
        Slot::Draining { .. } => 6,
        Slot::BackingOff { .. } => 7,
        Slot::Done => 8,
    };
    STATES[position]
}
