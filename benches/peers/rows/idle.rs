//! Memory of those who wait: the engine and its launcher together, beside the parents that wait in `xargs` and
//! `parallel`. Workers are not counted. The measure is PSS, in which pages that two processes share (the engine and
//! the launcher run the same file) count once.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::contest::{Contest, Context, Cost, Unit};
use crate::engine::Pipeline;
use crate::processes::{descendants, end_tree, pss};

pub(super) fn two(context: &Context) -> Result<Contest, String> {
    idle(context, 2, 8.0)
}

pub(super) fn hundred(context: &Context) -> Result<Contest, String> {
    idle(context, 100, 12.0)
}

fn idle(context: &Context, workers: usize, target: f64) -> Result<Contest, String> {
    // The source never writes, so that the workers wait for records.
    let yaml = format!(
        "stages:\n  source: {{command: [sleep, '1000']}}\n  idle: {{command: [cat], pool: {workers}}}\n\
         edges:\n  - queue: source -> idle\n"
    );
    let pipeline = Pipeline::new(context, &format!("idle-{workers}"), &yaml);
    let shell = move |script: &str| {
        let script = format!("yes 1000 | head -n {workers} | exec {script}");
        move || {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
            waiting(command, workers)
        }
    };
    Ok(Contest::new(Unit::Megabytes, move || waiting(pipeline.command(), workers + 1))
        .at_most(target)
        .peer("xargs -P", "xargs", None, shell(&format!("xargs -P{workers} -n1 sleep")))
        .peer("parallel -j", "parallel", None, shell(&format!("parallel --will-cite -j{workers} sleep"))))
}

/// How long anybody is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The memory of a program and of those that it started that are not workers, once so many workers run.
fn waiting(mut command: Command, workers: usize) -> Cost {
    let mut child = command.stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let cost = look(&mut child, workers);
    end_tree(child.id());
    let _ = child.wait();
    cost
}

fn look(child: &mut Child, workers: usize) -> Cost {
    let start = Instant::now();
    while descendants(child.id()).iter().filter(|&&pid| is_worker(pid)).count() < workers {
        if start.elapsed() > PATIENCE || child.try_wait().is_ok_and(|status| status.is_some()) {
            return Err("its workers did not come up".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // What was only needed for the start is given back by now, or never.
    std::thread::sleep(Duration::from_millis(300));
    let mut processes = descendants(child.id());
    processes.push(child.id());
    let counted = processes.into_iter().filter(|&pid| !is_worker(pid) && name(pid) != "sh");
    Ok(counted.filter_map(pss).sum::<u64>() as f64)
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn is_worker(pid: u32) -> bool {
    matches!(name(pid).as_str(), "sleep" | "cat" | "yes" | "head")
}
