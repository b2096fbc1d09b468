//! What a worker of a stage is started with.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::graph::StagePlan;
use crate::model::{Body, Command, Mode, PerWorker, Piece, Record, Stage, StartMethod, Template};
use crate::process::{Limit, Lookup, StartRequest, find_program, program_of_script};
use crate::sdk;
use crate::shared;

/// Names of variables that the engine sets itself begin so.
const OWN_PREFIX: &str = "MPFLOW_";

/// What a worker that does not inherit the environment gets of it nevertheless (the language, section 3).
const BASIC: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// The interpreter of a Python stage that names none, where no virtual environment is active.
const PYTHON: &str = "python3";

/// This program, and what its workers are called in lists of processes.
const PROGRAM: &str = "/proc/self/exe";
const WORKER: &str = "mpflow-worker";

/// The shell of the language, section 3.
const SHELL: &str = "/bin/sh";

/// How the processes of one worker are started; made once for each rank.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The program and its arguments, with placeholders in an `each` stage.
    argv: Vec<Template>,
    /// Placeholders that the shell finds in its environment.
    variables: Vec<Piece>,
    is_each: bool,
    /// It is a command that is forked: it has what whoever started the engine left open.
    inherits: bool,
    /// It is a copy of the launcher, which is this program too.
    is_copy: bool,
    is_forked: bool,
    program: Option<PathBuf>,
    env: Vec<Vec<u8>>,
    path: Option<OsString>,
    cwd: PathBuf,
    limits: Vec<Limit>,
    nice: Option<i32>,
    cpus: Vec<usize>,
}

/// What the run is called.
#[derive(Debug, Clone)]
pub(super) struct RunNames {
    pub(super) pipeline: String,
    pub(super) run_id: String,
    /// The socket of the shared objects.
    pub(super) shared: Option<PathBuf>,
}

/// Why a worker cannot be started; in words.
pub(super) type Refusal = String;

impl Recipe {
    pub(super) fn new(plan: &StagePlan, rank: usize, names: &RunNames) -> Result<Self, Refusal> {
        let stage = &plan.stage;
        let is_each = stage.mode == Mode::Each;
        let declared = environment(plan, rank, names);
        let (argv, variables) = match &stage.body {
            Body::Command(command) => templates(command.get(rank), is_each, stage.line_buffered),
            Body::Python(target) => (python(stage, target, &declared), Vec::new()),
            Body::Function(_) => {
                let name = stage.worker_name(rank);
                ([WORKER, &name].map(Template::literal).to_vec(), Vec::new())
            }
        };
        let path = declared.get(OsStr::new("PATH")).cloned();
        let cwd = stage.cwd.get(rank).clone();
        let env = declared
            .into_iter()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect();
        let mut recipe = Self {
            argv,
            variables,
            is_each,
            inherits: stage.start_method == StartMethod::Fork && matches!(stage.body, Body::Command(_)),
            is_copy: matches!(stage.body, Body::Function(_)) && stage.start_method != StartMethod::Spawn,
            is_forked: stage.start_method == StartMethod::Fork,
            program: None,
            env,
            path,
            cwd,
            limits: limits(plan),
            nice: stage.limits.nice,
            cpus: stage.limits.cpus.clone().unwrap_or_default(),
        };
        if matches!(stage.body, Body::Function(_)) {
            recipe.program = Some(PROGRAM.into());
            recipe.enter_cwd()?;
            return Ok(recipe);
        }
        let first = recipe.argv.first().ok_or("the command is empty")?;
        if first.pieces().next().is_none() {
            recipe.program = Some(recipe.look_up(&literal(first))?);
        }
        Ok(recipe)
    }

    /// The request for one look at whether a worker is ready: this command, where and as the worker runs.
    pub(super) fn probe(&self, id: u64, command: &Command) -> Result<StartRequest, Refusal> {
        let (argv, _) = templates(command, false, false);
        let argv: Vec<Vec<u8>> = argv.iter().map(|template| literal(template).into_bytes()).collect();
        let first = argv.first().ok_or("the command is empty")?;
        let program = self.look_up(&String::from_utf8_lossy(first))?;
        Ok(StartRequest {
            id,
            program: program.into_os_string().into_vec(),
            argv,
            env: self.env.clone(),
            cwd: self.cwd.as_os_str().as_bytes().to_vec(),
            ..StartRequest::default()
        })
    }

    fn look_up(&self, name: &str) -> Result<PathBuf, Refusal> {
        let found = find_program(name, self.path.as_deref(), &self.cwd);
        // A path is looked for from the working directory on, which may be what is missing.
        match (found, self.enter_cwd()) {
            (Lookup::Found(program), _) => Ok(program),
            (_, Err(refusal)) => Err(refusal),
            (Lookup::NotExecutable(file), Ok(())) => Err(format!("`{}` is not executable", file.display())),
            (Lookup::Missing, Ok(())) => Err(format!("there is no program `{name}`")),
        }
    }

    fn enter_cwd(&self) -> Result<(), Refusal> {
        let entered = std::fs::metadata(self.cwd.join("."));
        entered
            .map(drop)
            .map_err(|error| format!("cannot enter the working directory `{}`: {error}", self.cwd.display()))
    }

    /// The request for one process, without its descriptors. `record`: what an `each` process is started for.
    pub(super) fn request(
        &self,
        id: u64,
        record: Option<Record<'_>>,
        extra: &[(String, String)],
    ) -> Result<StartRequest, Refusal> {
        let nothing = Record { bytes: b"", sequence: 0, slot: 0 };
        let record = record.unwrap_or(nothing);
        let argv: Vec<Vec<u8>> = match self.is_each {
            true => self.argv.iter().map(|template| template.expand(record)).collect(),
            false => self.argv.iter().map(|template| literal(template).into_bytes()).collect(),
        };
        let mut env = self.env.clone();
        for &piece in &self.variables {
            env.push([piece.variable().as_bytes(), b"=", &piece.value(record)].concat());
        }
        for (name, value) in extra {
            env.push(format!("{name}={value}").into_bytes());
        }
        if argv.iter().chain(&env).any(|text| text.contains(&0)) {
            return Err(
                "the record holds a NUL byte, which no argument can; pass it on standard input".to_owned()
            );
        }
        let program = match &self.program {
            Some(program) => program.clone(),
            None => self.look_up(&String::from_utf8_lossy(&argv[0]))?,
        };
        Ok(StartRequest {
            id,
            program: program.into_os_string().into_vec(),
            argv,
            env,
            cwd: self.cwd.as_os_str().as_bytes().to_vec(),
            descriptors: Vec::new(),
            limits: self.limits.clone(),
            nice: self.nice,
            cpus: self.cpus.clone(),
            is_brief: self.is_each,
            after: None,
            inherits: self.inherits,
            is_copy: self.is_copy,
        })
    }

    /// The first number that it has no descriptor at before it is given its own.
    pub(super) fn first_free_number(&self, inheritable: &[RawFd]) -> RawFd {
        match (self.inherits, self.is_copy && self.is_forked) {
            // Its own come after what it inherits, whose numbers are known to who wrote the command.
            (true, _) => inheritable.last().map_or(0, |last| last + 1),
            (_, true) => crate::process::first_free_number(),
            _ => 0,
        }
    }

    /// Whether the record is in the arguments, so that it is not given on standard input.
    pub(super) fn takes_record_as_argument(&self) -> bool {
        self.is_each
            && (self.variables.iter().any(|piece| piece.reads_record())
                || self.argv.iter().any(|template| template.pieces().any(Piece::reads_record)))
    }
}

/// The text of a template without placeholders, or of one whose placeholders are none.
fn literal(template: &Template) -> String {
    String::from_utf8_lossy(&template.expand(Record { bytes: b"", sequence: 0, slot: 0 })).into_owned()
}

fn templates(command: &Command, is_each: bool, line_buffered: bool) -> (Vec<Template>, Vec<Piece>) {
    let plain = |text: &str| if is_each { Template::parse(text) } else { Template::literal(text) };
    let mut argv: Vec<Template> = Vec::new();
    if line_buffered {
        argv.extend(["stdbuf", "-oL"].map(Template::literal));
    }
    match command {
        Command::Argv(arguments) => {
            argv.extend(arguments.iter().map(|argument| plain(argument)));
            (argv, Vec::new())
        }
        Command::Shell(script) => {
            let template = plain(script);
            let mut variables: Vec<Piece> = Vec::new();
            for piece in template.pieces() {
                if !variables.contains(&piece) {
                    variables.push(piece);
                }
            }
            // Every `each` process has its number in its environment anyway.
            variables.retain(|&piece| piece != Piece::Sequence);
            argv.extend([SHELL, "-c", &template.shell_script()].map(Template::literal));
            (argv, variables)
        }
    }
}

/// A worker of a Python stage: the interpreter, the package that this program carries, and for people who look at the
/// list of processes, what it calls.
fn python(stage: &Stage, target: &str, environment: &HashMap<OsString, OsString>) -> Vec<Template> {
    let active = environment.get(OsStr::new("VIRTUAL_ENV")).map(OsString::as_os_str);
    let interpreter = match &stage.python_executable {
        Some(declared) => declared.clone(),
        None => sdk::interpreter(active)
            .map_or_else(|| PYTHON.to_owned(), |program| program.to_string_lossy().into_owned()),
    };
    let package = sdk::folder().join("__main__.py");
    [interpreter, package.to_string_lossy().into_owned(), target.to_owned()]
        .iter()
        .map(|argument| Template::literal(argument))
        .collect()
}

fn environment(plan: &StagePlan, rank: usize, names: &RunNames) -> HashMap<OsString, OsString> {
    let stage = &plan.stage;
    let inherits = |name: &OsStr| {
        let name = name.to_string_lossy();
        !name.starts_with(OWN_PREFIX) && (stage.inherit_env || BASIC.contains(&name.as_ref()))
    };
    let mut env: HashMap<OsString, OsString> =
        std::env::vars_os().filter(|(name, _)| inherits(name)).collect();
    if let Some(path) = env.get_mut(OsStr::new("PATH")) {
        add_own_folder(path);
    }
    env.extend(stage.env.iter().map(|(name, value)| (name.into(), value.get(rank).into())));
    let own = [
        ("PIPELINE", names.pipeline.clone()),
        ("RUN_ID", names.run_id.clone()),
        ("STAGE", stage.name.clone()),
        ("WORKER", stage.worker_name(rank)),
        ("RANK", rank.to_string()),
        ("POOL", stage.pool.max.to_string()),
    ];
    env.extend(own.map(|(name, value)| (format!("{OWN_PREFIX}{name}").into(), value.into())));
    env.extend(names.shared.iter().map(|path| (shared::VARIABLE.into(), path.into())));
    env
}

/// Workers find `mpflow`, whose `shared` they call, also where it was started by its path: as the last of all, so that
/// nothing else is found that would not have been.
fn add_own_folder(path: &mut OsString) {
    let Ok(program) = std::env::current_exe() else { return };
    let Some(folder) = program.parent().filter(|_| program.file_name() == Some(OsStr::new("mpflow"))) else {
        return;
    };
    if !std::env::split_paths(path).any(|known| known == folder) {
        path.push(":");
        path.push(folder);
    }
}

fn limits(plan: &StagePlan) -> Vec<Limit> {
    use nix::libc::{RLIMIT_AS, RLIMIT_CPU, RLIMIT_NOFILE};
    let limits = &plan.stage.limits;
    let seconds = limits.cpu_time.map(|time| time.as_secs().max(1));
    let entries = [(RLIMIT_AS, limits.memory), (RLIMIT_NOFILE, limits.open_files), (RLIMIT_CPU, seconds)];
    entries
        .into_iter()
        .filter_map(|(resource, value)| {
            Some(Limit { resource: i32::try_from(resource).ok()?, value: value? })
        })
        .collect()
}

/// Everything that would keep a stage's first workers from starting, found without starting anything.
pub(crate) fn check(plan: &StagePlan) -> Result<(), Refusal> {
    let names = RunNames { pipeline: String::new(), run_id: String::new(), shared: None };
    let ranks = match (&plan.stage.cwd, &plan.stage.body) {
        (PerWorker::Same(_), Body::Command(PerWorker::Same(_)) | Body::Python(_) | Body::Function(_)) => 1,
        _ => plan.stage.pool.max,
    };
    (0..ranks).try_for_each(|rank| {
        let recipe = Recipe::new(plan, rank, &names)?;
        // A shell would find out only when it runs.
        if let Body::Command(command) = &plan.stage.body
            && let Command::Shell(script) = command.get(rank)
            && let Some(program) = program_of_script(script)
        {
            recipe.look_up(program)?;
        }
        Ok(())
    })
}
