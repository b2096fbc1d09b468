//! From the kill of a worker to the moment in which its record is being worked on again: the death is seen, the
//! record given back, a process started where one is needed, and the record read by it. The restart policy is the
//! default. Each record kills one worker, and is answered by the next.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::contest::{Contest, Context, Unit};
use crate::engine::{Pipeline, quoted};

/// Says who it is and waits to be killed, and the second time that it has the record, and answers. All by the shell
/// itself, so that nothing else is measured.
const WORKER: &str = "
while read -r line; do
    if [ -e begun-$line ]; then
        echo again > said; echo $line
    else
        : > begun-$line; echo $$ > said; read -r never < never
    fi
done
";

/// What is shown of the times of one run.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Median,
    Percentile99,
}

impl Shown {
    fn of(self, mut times: Vec<f64>) -> f64 {
        times.sort_by(f64::total_cmp);
        match self {
            Self::Median => times[times.len() / 2],
            Self::Percentile99 => times[times.len() * 99 / 100],
        }
    }
}

pub(super) fn each(context: &Context) -> Result<Contest, String> {
    recovery(context, "each", "mode: each", Shown::Median)
}

pub(super) fn each_at_worst(context: &Context) -> Result<Contest, String> {
    recovery(context, "each-99", "mode: each", Shown::Percentile99)
}

pub(super) fn only_map(context: &Context) -> Result<Contest, String> {
    recovery(context, "map", "mode: map", Shown::Median)
}

pub(super) fn only_map_at_worst(context: &Context) -> Result<Contest, String> {
    recovery(context, "map-99", "mode: map", Shown::Percentile99)
}

pub(super) fn map_of_two(context: &Context) -> Result<Contest, String> {
    recovery(context, "map-2", "mode: map, pool: 2", Shown::Median)
}

pub(super) fn map_of_two_at_worst(context: &Context) -> Result<Contest, String> {
    recovery(context, "map-2-99", "mode: map, pool: 2", Shown::Percentile99)
}

fn recovery(context: &Context, name: &str, stage: &str, shown: Shown) -> Result<Contest, String> {
    let kills = context.size(200, 30);
    let folder = context.folder().join(format!("recovery-{name}"));
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    for fifo in ["said", "never"] {
        mkfifo(&folder.join(fifo), Mode::S_IRWXU).map_err(|error| error.to_string())?;
    }
    std::fs::write(folder.join("worker.sh"), WORKER).map_err(|error| error.to_string())?;
    let yaml = format!(
        "stages:\n  work: {{{stage}, command: [sh, worker.sh], cwd: {}}}\nedges:\n  - queue: stdin -> work -> stdout\n",
        quoted(&folder)
    );
    let pipeline = Pipeline::new(context, &format!("recovery-{name}"), &yaml);
    let mut first = 0;
    let run = move || {
        // No record comes twice, though the next round is in the same folder.
        first += kills;
        let mut command = pipeline.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        // Open for both, so that it neither waits nor ends.
        let said = File::options().read(true).write(true).open(folder.join("said"));
        let times = said
            .and_then(|said| times(&mut child, BufReader::new(said), first..first + kills))
            .map_err(|error| error.to_string());
        if times.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let times = times?;
        if status.success() { Ok(shown.of(times)) } else { Err(format!("it ended with {status}")) }
    };
    Ok(Contest::new(Unit::Millis, run).at_most(50.0))
}

/// The seconds for each of these records.
fn times(
    child: &mut Child,
    mut said: impl BufRead,
    records: std::ops::Range<u64>,
) -> std::io::Result<Vec<f64>> {
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    let line = |from: &mut dyn BufRead| {
        let mut line = String::new();
        from.read_line(&mut line).map(|_| line.trim().to_owned())
    };
    let mut times = Vec::new();
    for record in records {
        writeln!(stdin, "{record}")?;
        let pid = line(&mut said)?.parse().map_err(std::io::Error::other)?;
        let start = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        let again = line(&mut said)?;
        times.push(start.elapsed().as_secs_f64());
        let answer = line(&mut stdout)?;
        if (again.as_str(), answer) != ("again", record.to_string()) {
            return Err(std::io::Error::other(format!("`{again}` came for record {record}")));
        }
    }
    Ok(times)
}
