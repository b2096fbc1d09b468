//! A `pipe` edge beside a pipe of the shell: the same two programs, joined by the kernel alone.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::contest::{Contest, Context, Unit};
use crate::engine::{Pipeline, quoted};
use crate::input;

pub(super) fn pipe(context: &Context) -> Result<Contest, String> {
    let file = input::text(context, context.size(1_000_000_000, 100_000_000));
    let pipeline = |name: &str, sink: &str| {
        let yaml = format!(
            "stages:\n  source: {{command: [cat, {}]}}\n  sink: {sink}\nedges:\n  - pipe: source -> sink\n",
            quoted(&file)
        );
        Pipeline::new(context, name, &yaml)
    };
    let mut shown = pipeline("pipe-shown", "{command: [md5sum]}").command();
    if md5(&mut shown)? != md5(Command::new("md5sum").stdin(open(&file)?))? {
        return Err("what came out is not what went in".to_owned());
    }
    let timed = pipeline("pipe", "{command: [cat], stdout: 'null'}");
    let megabytes = std::fs::metadata(&file).map_err(|error| error.to_string())?.len() as f64 / 1e6;
    Ok(Contest::new(Unit::Rate(megabytes, "MB/s"), move || timed.seconds()).shell(
        "shell pipe",
        "cat",
        0.97,
        "cat \"$1\" | cat > /dev/null",
        &file,
    ))
}

fn open(file: &Path) -> Result<std::fs::File, String> {
    std::fs::File::open(file).map_err(|error| error.to_string())
}

fn md5(command: &mut Command) -> Result<String, String> {
    let output = command.stdout(Stdio::piped()).output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
