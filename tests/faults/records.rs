//! Records and results under fire: workers killed by the dozen, half-written results, poison, a consumer that stands
//! still, data behind which nobody is any more.
//!
//! | file | injects |
//! |---|---|
//! | `fire` | SIGKILL of a random worker every 50 ms, in pools of every kind |
//! | `halves` | a kill in the middle of a large result; output that is held, torn or endless |
//! | `poison` | records that kill whoever takes them; the order of what follows a death |
//! | `still` | a consumer, a reader, two ends of a pipe that stand still |

mod fire;
mod halves;
mod poison;
mod still;

use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal as Kill, pidfd_open, pidfd_send_signal};

use crate::support::Running;

/// Kills processes of one stage.
struct Killer {
    launcher: i32,
    /// As they stand in a worker's environment.
    stage: String,
    run: String,
}

impl Killer {
    /// Of this stage's workers.
    fn of(run: &Running, stage: &str) -> Self {
        let id = run.wait_for_event("run_started")["run_id"].as_str().unwrap().to_owned();
        Self {
            launcher: run.launcher_pid(),
            stage: format!("MPFLOW_STAGE={stage}"),
            run: format!("MPFLOW_RUN_ID={id}"),
        }
    }

    /// The workers that live.
    fn workers(&self) -> Vec<i32> {
        // Not by a look at all processes of the machine: short ones would be gone before it is over.
        let path = format!("/proc/{0}/task/{0}/children", self.launcher);
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let mut workers: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        workers.retain(|&pid| self.is_worker(pid));
        workers
    }

    fn is_worker(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has =
            |wanted: &str| environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes());
        has(&self.stage) && has(&self.run)
    }

    /// Kills one, if one is there to be killed.
    fn kill_one(&self) -> bool {
        let mut workers = self.workers();
        fastrand::shuffle(&mut workers);
        workers.into_iter().any(|pid| self.kill(pid))
    }

    /// Kills this one, unless it has ended: its number may be another's by now, which the descriptor is not.
    fn kill(&self, pid: i32) -> bool {
        let Some(number) = Pid::from_raw(pid) else { return false };
        let Ok(descriptor) = pidfd_open(number, PidfdFlags::empty()) else { return false };
        self.is_worker(pid) && pidfd_send_signal(&descriptor, Kill::KILL).is_ok()
    }

    /// Kills one every 50 ms until `is_over`. How many it has killed, but for the last that was not there any more.
    fn rage(&self, mut is_over: impl FnMut() -> bool) -> u64 {
        let mut killed = 0;
        let mut next = Instant::now() + EVERY;
        while !is_over() {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + EVERY;
            // Between two processes there may be none.
            while !self.kill_one() && !is_over() {
                std::thread::sleep(Duration::from_millis(1));
            }
            killed += 1;
        }
        killed
    }
}

/// Some of these runs are seconds of both processors, which others may want as well.
const PATIENCE: Duration = Duration::from_secs(240);

/// Between two kills.
const EVERY: Duration = Duration::from_millis(50);
