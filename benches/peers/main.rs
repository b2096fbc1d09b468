//! The engine beside its peers: `cargo bench` prints one table.
//!
//! Every row runs all its contenders in turn, round after round (A B C A B C …), since the speed of a machine
//! drifts by more than the contenders differ. What counts is the ratio within a round; the table shows the median
//! of the ratios and the least and the greatest. Each run is checked before its time counts.
//!
//! ```text
//! cargo bench                     all rows
//! cargo bench -- --quick map      smaller inputs, only the rows whose names hold `map`
//! cargo bench -- --json           one JSON document instead of the table
//! cargo bench -- growth           how the engine's own cost grows with the work, instead of the rows
//! cargo bench -- --help           all of them
//! ```
//!
//! | file | part |
//! |---|---|
//! | `options` | the command line |
//! | `contest` | rounds, ratios, targets |
//! | `input` | generated files |
//! | `engine` | runs of `mpflow`, and whether they did what they should |
//! | `python`, `python/` | which Python, and the scripts of the peers |
//! | `processes` | memory of other processes, and their end |
//! | `growth/` | curves over the amount of work, and their pictures |
//! | `rows/` | one file for each kind of row: its peers and its targets |
//! | `machine`, `table` | where it ran, and what came of it |

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod contest;
mod engine;
mod growth;
mod input;
mod machine;
mod options;
mod processes;
mod python;
mod rows;
mod table;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use contest::Context;
use options::Options;

/// Where `benches/install-peers` puts what it installs.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/bin");

/// Has whatever is started find the installed peers before others. The search path of a process can be changed for
/// sure only by starting it anew.
fn peers_first() -> std::io::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    if !Path::new(PEERS).is_dir() {
        return Ok(());
    }
    if folders.first().is_some_and(|first| first == Path::new(PEERS)) {
        return Ok(());
    }
    let folders = std::iter::once(PathBuf::from(PEERS)).chain(folders);
    let path = std::env::join_paths(folders).map_err(std::io::Error::other)?;
    Err(Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env("PATH", path).exec())
}

fn main() -> ExitCode {
    // What a process becomes by `init` is started from the search path that this one has by then.
    let found = peers_first();
    mpflow::init(&rows::functions());
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let growth_names = growth::names();
    let names: Vec<&str> = rows::all().iter().map(|row| row.name).collect();
    if options.help {
        print!("{}", options::help(&names, &growth_names));
        return ExitCode::SUCCESS;
    }
    if let Err(message) = options.check_filters(if options.growth { &growth_names } else { &names }) {
        eprintln!("{message}");
        return ExitCode::from(2);
    }
    if options.growth {
        return ExitCode::from(u8::from(!growth::run(&options)));
    }
    if let Err(error) = found {
        eprintln!("# cannot look for peers in {PEERS}: {error}");
    } else if !Path::new(PEERS).is_dir() {
        eprintln!("# no {PEERS}: `benches/install-peers` installs what the rows compare with");
    }
    let context = Context::new(&options);
    let before = machine::load();
    let mut results = Vec::new();
    for row in rows::all().into_iter().filter(|row| options.wants(row.name)) {
        eprintln!("# {}", row.name);
        match (row.make)(&context) {
            Ok(contest) => {
                let outcome = contest.hold(row, options.rounds());
                eprintln!("{}", table::brief(&outcome));
                results.push(outcome);
            }
            Err(reason) => eprintln!("#   left out: {reason}"),
        }
    }
    let about = machine::About::new(before);
    if options.json {
        println!("{}", table::json(&about, &results));
    } else {
        println!("{}", table::text(&about, &results));
    }
    let is_wrong = results.iter().any(|result| result.ours.is_err());
    ExitCode::from(u8::from(is_wrong))
}
