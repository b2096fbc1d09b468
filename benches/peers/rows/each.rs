//! `each`: one process for every line, two at a time.
//!
//! The limit starts processes by `posix_spawn` and waits for them, on two threads, and does nothing else: no record,
//! no captured output, no process groups. The engine by default reads each process's standard output and standard
//! error; in the second row both go to `/dev/null`, as those of the peers do.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::contest::{Contest, Context, Cost, LOCALE, Unit};
use crate::engine::Pipeline;
use crate::input;

pub(super) fn captured(context: &Context) -> Result<Contest, String> {
    each(context, "captured", "")
}

pub(super) fn uncaptured(context: &Context) -> Result<Contest, String> {
    each(context, "uncaptured", ", stdout: 'null', stderr: 'null'")
}

fn each(context: &Context, name: &str, more: &str) -> Result<Contest, String> {
    let count = context.size(4000, 400);
    let file = input::numbers(context, 1, count);
    let yaml = format!(
        "stages:\n  job: {{command: [/bin/true, '{{}}'], mode: each, pool: 2{more}}}\n\
         edges:\n  - queue: stdin -> job\n"
    );
    let pipeline = Pipeline::new(context, &format!("each-{name}"), &yaml).reading(&file);
    let python = "import subprocess, sys; from multiprocessing.pool import ThreadPool\n\
        ThreadPool(2).map(lambda n: subprocess.run(['/bin/true', n]), open(sys.argv[1]).read().split(), 1)";
    let python = format!("python3 -c \"{python}\" \"$1\"");
    Ok(Contest::new(Unit::Rate(count as f64, "processes/s"), move || {
        pipeline.seconds_delivering("-> job", count)
    })
    .peer("posix_spawn, the limit", "true", 0.9, move || limit(count))
    .shell("xargs -P2 -n1", "xargs", 1.5, "xargs -P2 -n1 /bin/true < \"$1\"", &file)
    .shell("parallel -j2", "parallel", 8.0, "parallel --will-cite -j2 /bin/true < \"$1\"", &file)
    .shell("Python threads", "python3", None, &python, &file))
}

/// Half of the processes on each of two threads; std starts them by `posix_spawn` where nothing is asked for that
/// it cannot do.
fn limit(count: u64) -> Cost {
    let half = move |processes: u64| {
        for number in 0..processes {
            let mut command = Command::new("/bin/true");
            command
                .arg(number.to_string())
                .env(LOCALE.0, LOCALE.1)
                .stdout(Stdio::inherit())
                .stderr(Stdio::inherit());
            assert!(command.status().unwrap().success());
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| half(count / 2));
        scope.spawn(|| half(count - count / 2));
    });
    Ok(start.elapsed().as_secs_f64())
}
