//! A census of the processes of a run, by three means that do not depend on each other.

use std::collections::BTreeSet;
use std::fs;

use super::warden;

/// A variable that every process of a run inherits, unless its stage inherits nothing; then it has the run's id.
pub(super) const MARK: &str = "MPFLOWTEST_MARK";

/// What a run's processes are told by.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The process to which all come that the run leaves behind.
    pub(super) warden: i32,
    /// Process groups and sessions, by the pids that the events told.
    pub(super) groups: BTreeSet<i32>,
    /// `NAME=value` in the environment.
    pub(super) marks: Vec<String>,
}

/// Processes of a run. What one means does not see, another may: a process that has left everything else behind is
/// still a descendant; one that somebody outside was asked to start is not, but has the mark or the group.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Those that descend from the run's subreaper.
    pub(crate) descendants: Vec<i32>,
    /// Those in the groups and sessions of workers.
    pub(crate) grouped: Vec<i32>,
    /// Those with the run's mark, or its id, in their environment.
    pub(crate) marked: Vec<i32>,
}

impl Census {
    pub(super) fn take(signs: &Signs) -> Self {
        let mut census = Self { descendants: warden::descendants(signs.warden), ..Self::default() };
        for pid in pids() {
            let Some(Stat { state, group, session, .. }) = stat(pid) else { continue };
            if matches!(state, 'Z' | 'X') {
                continue;
            }
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |wanted: &dyn Fn(&[u8]) -> bool| environment.split(|&byte| byte == 0).any(wanted);
            if has(&|variable| signs.marks.iter().any(|mark| variable == mark.as_bytes())) {
                census.marked.push(pid);
            }
            // A number that another test's run has got meanwhile is marked as its own.
            let is_grouped = signs.groups.contains(&group) || signs.groups.contains(&session);
            let is_ours = || signs.marks.iter().any(|mark| has(&|variable| variable == mark.as_bytes()));
            if is_grouped && (is_ours() || !has(&|variable| variable.starts_with(MARK.as_bytes()))) {
                census.grouped.push(pid);
            }
        }
        // The wardens themselves are copies of the test's process and in nobody's group.
        census.descendants.retain(|&pid| stat(pid).is_some());
        census
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Those that any of the three has seen.
    pub(crate) fn all(&self) -> BTreeSet<i32> {
        [&self.descendants, &self.grouped, &self.marked].into_iter().flatten().copied().collect()
    }

    /// Each with its command line and the means that have seen it.
    pub(super) fn describe(&self) -> Vec<String> {
        let means =
            [("descendant", &self.descendants), ("group", &self.grouped), ("environment", &self.marked)];
        let line = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let state = stat(pid).map_or('?', |stat| stat.state);
            let by: Vec<&str> =
                means.iter().filter(|(_, seen)| seen.contains(&pid)).map(|&(by, _)| by).collect();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            format!("{pid}: {line} ({state}; seen by {})", by.join(", "))
        };
        self.all().into_iter().map(line).collect()
    }
}

/// All processes of this machine.
pub(super) fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Fields 3, 5 and 6 of `/proc/PID/stat`.
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) group: i32,
    pub(super) session: i32,
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, group, session: fields.next()?.parse().ok()? })
}
