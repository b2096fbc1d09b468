//! What can be known to fail before anything is started.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{AccessFlags, access};

use crate::explain;
use crate::explanation::{Machine, NeedPart};
use crate::graph::{Plan, StagePlan};
use crate::model::{Body, Place, ProbeKind, Problem, Redirect, STDIN, nearest};
use crate::runtime::run::check_stage;
use crate::shared::Layout;
use crate::worker;

/// What this machine lacks for a pipeline: missing programs, folders that cannot be entered, too few descriptors
/// or processes. Nothing is started.
pub(super) fn preflight(plan: &Plan) -> Vec<Problem> {
    let mut problems: Vec<Problem> = plan.stages.iter().flat_map(of_stage).collect();
    let machine = Machine::limits();
    problems.extend(descriptors(plan, &machine));
    problems.extend(processes(plan, &machine));
    problems.extend(shared_memory(plan, &machine));
    problems
}

fn folder_error(folder: &Path) -> Option<String> {
    match std::fs::metadata(folder) {
        Err(error) => Some(error.to_string()),
        Ok(metadata) if !metadata.is_dir() => Some("it is not a folder".to_owned()),
        Ok(_) => access(folder, AccessFlags::X_OK).err().map(|error| error.desc().to_owned()),
    }
}

fn of_stage(stage: &StagePlan) -> Vec<Problem> {
    let mut problems = Vec::new();
    let name = &stage.stage.name;
    let missing_cwd = stage.stage.cwd.all().iter().find_map(|cwd| Some((cwd, folder_error(cwd)?)));
    if let Some((cwd, error)) = &missing_cwd {
        problems.push(
            Problem::error("mpflow::cwd", format!("the working directory of `{name}` cannot be entered"))
                .at(Place::StageKey(name.clone(), "cwd"), format!("`{}`: {error}", cwd.display()))
                .help("make the folder, or name another in `cwd`"),
        );
    }
    if let Some(Redirect::File(path)) = stage.stage.stdin.as_ref().map(|stdin| stdin.get(0))
        && let Err(error) = std::fs::metadata(path)
    {
        problems.push(
            Problem::error("mpflow::missing_file", format!("the input file of `{name}` cannot be read"))
                .at(Place::StageKey(name.clone(), "stdin"), format!("`{}`: {error}", path.display())),
        );
    }
    if let Some(ProbeKind::Log(pattern)) = stage.stage.ready.as_ref().map(|probe| &probe.kind)
        && let Err(error) = regex::bytes::Regex::new(pattern)
    {
        let last = error.to_string().lines().last().unwrap_or_default().to_owned();
        problems.push(
            Problem::error(
                "mpflow::invalid_regex",
                format!("the `ready` probe of `{name}` is no regular expression"),
            )
            .at(Place::StageKey(name.clone(), "ready"), last)
            .help("write it in the syntax of the `regex` crate: like Perl's, without look-around"),
        );
    }
    problems.extend(function(stage));
    // Programs are looked for from the working directory on.
    if let (None, Err(reason)) = (missing_cwd, check_stage(stage)) {
        let (what, key, help) = match &stage.stage.body {
            Body::Command(_) => {
                ("command", "command", "install the program, add its folder to PATH, or write its path")
            }
            Body::Python(_) if stage.stage.python_executable.is_some() => {
                ("interpreter", "python_executable", "name a Python 3.9 or later, or remove the key")
            }
            Body::Python(_) => {
                ("interpreter", "python", "install Python 3.9 or later, or name one by `python_executable`")
            }
            Body::Function(_) => ("function", "function", "register the function in the program"),
        };
        problems.push(
            Problem::error("mpflow::missing_program", format!("the {what} of `{name}` cannot be run"))
                .at(Place::StageKey(name.clone(), key), reason)
                .help(help),
        );
    }
    problems
}

/// A function that this program does not have, or not as its stage calls it.
fn function(stage: &StagePlan) -> Option<Problem> {
    let Body::Function(name) = &stage.stage.body else { return None };
    let functions = worker::registered();
    let stage_name = &stage.stage.name;
    let at = || Place::StageKey(stage_name.clone(), "function");
    if functions.is_empty() {
        return Some(
            Problem::error(
                "mpflow::no_functions",
                format!("stage `{stage_name}` calls the Rust function `{name}`, and this program has none"),
            )
            .at(at(), "registered by another program")
            .help(
                "run the pipeline by the program that registers the function: it calls \
                 `mpflow::init(&functions)` first thing in `main`",
            ),
        );
    }
    let Some(kind) = functions.kind(name) else {
        let advice = match nearest(name, functions.names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => {
                let names: Vec<&str> = functions.names().collect();
                format!("this program has registered `{}`", names.join("`, `"))
            }
        };
        return Some(
            Problem::error(
                "mpflow::unknown_function",
                format!("stage `{stage_name}` calls `{name}`, which this program has not registered"),
            )
            .at(at(), "no function has this name")
            .help(advice),
        );
    };
    let is_fed = stage.inputs.iter().any(|port| port.name == STDIN);
    let (wrong, help) = kind.misfit(is_fed, stage.stage.mode)?;
    Some(
        Problem::error(
            "mpflow::function_kind",
            format!("`{name}` was registered as {}, and stage `{stage_name}` {wrong}", kind.described()),
        )
        .at(at(), "cannot be called so")
        .help(help),
    )
}

fn descriptors(plan: &Plan, machine: &Machine) -> Option<Problem> {
    let need = explain::descriptors(plan, machine);
    let (needed, hard) = (need.needed, need.limit.filter(|_| !need.fits)?);
    let largest = need.largest()?;
    Some(
        Problem::error(
            "mpflow::too_many_descriptors",
            format!("the pipeline needs up to {needed} descriptors, and this process may open {hard}"),
        )
        .at(
            pool_of(plan, largest),
            format!(
                "{} workers with {} descriptors each are {} of them",
                largest.times,
                largest.each,
                largest.sum()
            ),
        )
        .help(format!("make the pool narrower, or raise the limit: `ulimit -Hn {needed}`, as root")),
    )
}

fn processes(plan: &Plan, machine: &Machine) -> Option<Problem> {
    let need = explain::processes(plan, machine);
    let (needed, soft) = (need.needed, need.limit.filter(|_| !need.fits)?);
    let largest = need.largest()?;
    Some(
        Problem::error(
            "mpflow::too_many_processes",
            format!("the pipeline needs up to {needed} processes, and this user may have {soft}"),
        )
        .at(pool_of(plan, largest), format!("{} of them are workers of this stage", largest.times))
        .help(format!("make the pool narrower, or raise the limit: `ulimit -u {needed}`")),
    )
}

/// Values and arrays that could never all be written: whoever came that far would be killed.
fn shared_memory(plan: &Plan, machine: &Machine) -> Option<Problem> {
    let needed = Layout::new(&plan.shared).bytes();
    let there = machine.memory_bytes.filter(|&there| needed > there)?;
    let (needed, there) = (bytes(needed), bytes(there));
    Some(
        Problem::error(
            "mpflow::too_much_shared_memory",
            format!("the shared arrays take {needed}, and this machine has {there} of memory"),
        )
        .at(Place::Top("shared"), "eight bytes for each element")
        .help("declare shorter arrays, or keep what is so large in a file"),
    )
}

/// For people: `1.5 GiB`.
fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// The pool that a summand counts: that of a stage, or of the writing stage of a pipe.
fn pool_of(plan: &Plan, part: &NeedPart) -> Place {
    let pipe = plan.pipes.iter().find(|pipe| pipe.name == part.of);
    let stage = pipe.map_or(&part.of, |pipe| &plan.stages[pipe.from].stage.name);
    Place::StageKey(stage.clone(), "pool")
}

/// Raises the soft limit of open descriptors to the hard one, for this process: the engine holds several for each
/// worker.
pub(super) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "cannot raise the limit of open descriptors");
    }
}
