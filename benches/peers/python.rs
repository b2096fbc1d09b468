//! Python: which one, and the scripts of the peers, whose functions the engine's pipelines run as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use crate::contest::{Cost, LOCALE};
use crate::engine::quoted;

/// The interpreter itself, since what stands for it on the `PATH` may be a script that looks for one; `None` where
/// there is none.
pub(crate) fn interpreter() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let output =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        path.is_file().then_some(path)
    };
    FOUND.get_or_init(find).as_deref()
}

/// The interpreter, or why a row cannot be.
pub(crate) fn needed() -> Result<&'static Path, String> {
    interpreter().ok_or_else(|| "no `python3` here".to_owned())
}

/// The same where it has NumPy.
pub(crate) fn with_numpy() -> Result<&'static Path, String> {
    static HAS: OnceLock<bool> = OnceLock::new();
    let python = needed()?;
    let has = || {
        let mut command = Command::new(python);
        command
            .args(["-c", "import numpy"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    match HAS.get_or_init(has) {
        true => Ok(python),
        false => Err("no NumPy here: benches/install-peers".to_owned()),
    }
}

/// A script of the peers.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/python").join(name)
}

/// A function of such a script, for a pipeline.
pub(crate) fn target(name: &str, function: &str) -> String {
    quoted(Path::new(&format!("{}:{function}", script(name).display())))
}

/// What every pipeline of Python functions says first.
pub(crate) fn defaults(python: &Path) -> String {
    format!("defaults: {{python_executable: {}}}\n", quoted(python))
}

/// A peer's program.
pub(crate) fn program<const N: usize>(python: &Path, name: &str, arguments: [&str; N]) -> Command {
    let mut command = Command::new(python);
    command.arg(script(name)).args(arguments).env(LOCALE.0, LOCALE.1).stdin(Stdio::null());
    command
}

/// The seconds of a command that prints this and nothing else.
pub(crate) fn printing(command: &mut Command, expected: &str) -> Cost {
    let start = Instant::now();
    let printed = printed(command)?;
    let seconds = start.elapsed().as_secs_f64();
    if printed == expected {
        Ok(seconds)
    } else {
        Err(format!("it printed `{printed}` instead of `{expected}`"))
    }
}

/// The seconds that a command has measured by itself and prints.
pub(crate) fn told(command: &mut Command) -> Cost {
    let printed = printed(command)?;
    printed.parse().map_err(|_| format!("it printed `{printed}`, which is no time"))
}

fn printed(command: &mut Command) -> Result<String, String> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
