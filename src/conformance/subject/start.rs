//! How a worker under test is started: its task, its descriptors, its environment.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::BytesMut;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde_json::{Value, json};

use super::{Mode, Options, Stop, Subject};
use crate::ipc::PROTOCOL;
use crate::process::{Launcher, Lookup, StartRequest, find_program};
use crate::sys::descriptor;

/// Numbers of the descriptors in the worker. With gaps: a worker reads them in its task.
const TASK_FD: i32 = 11;
const CONTROL_FD: i32 = 7;
const INPUT_FD: i32 = 5;
const OUTPUT_FD: i32 = 9;

/// The task document, and the target within it.
pub(crate) struct Task(pub(crate) Value);

impl Task {
    pub(crate) fn new(options: &Options, mode: Mode, function: &str) -> Self {
        let is_map = mode == Mode::Map;
        let format = options.format.as_str();
        let input = json!({"name": "stdin", "format": format, "fd": INPUT_FD, "leased": is_map});
        let folder = std::env::current_dir().unwrap_or_default();
        Self(json!({
            "protocol": PROTOCOL,
            "pipeline": "conformance", "run_id": "conformance", "stage": "worker",
            "mode": if mode == Mode::Stream { "stream" } else { "map" },
            "source": mode == Mode::Source,
            "daemon": false,
            "folder": folder.to_string_lossy(), "path": [],
            "target": format!("{}{function}", options.target_prefix),
            "initializer": null, "args": [], "kwargs": {}, "unpack": false, "batch": null, "preload": [],
            "block": {"records": 1000, "bytes": 262_144},
            "inputs": if mode == Mode::Source { json!([]) } else { json!([input]) },
            "outputs": [{
                "name": "stdout", "format": format, "fd": (!is_map).then_some(OUTPUT_FD),
                "max_record": 64 << 20, "block_records": 1000, "wanted": true,
            }],
            "answers": is_map.then_some(OUTPUT_FD),
            "connections": {},
            "shared": null,
        }))
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn start(
        options: &Options,
        launcher: &'a mut Launcher,
        id: u64,
        task: &Task,
    ) -> Result<Self, Stop> {
        let mut file = File::from(memfd_create(c"mpflow", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(task.0.to_string().as_bytes())?;
        let (control, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let printed = stderr.try_clone()?;
        let mut descriptors = vec![(stderr, 2), (printed, 1), (file.into(), TASK_FD), (theirs, CONTROL_FD)];
        let mut input = None;
        if task.0["source"] != true {
            let (reading, writing) = descriptor::pipe()?;
            descriptor::set_nonblocking(writing.as_fd())?;
            descriptors.push((reading, INPUT_FD));
            input = Some(writing);
        }
        let (output, writing) = descriptor::pipe()?;
        descriptor::set_nonblocking(output.as_fd())?;
        descriptors.push((writing, OUTPUT_FD));
        launcher.request_start(StartRequest { descriptors, ..request(options, id)? })?;
        Ok(Self {
            launcher,
            id,
            timeout: options.timeout,
            format: options.format,
            control: Some(control),
            inbox: BytesMut::new(),
            said: VecDeque::new(),
            descriptors: VecDeque::new(),
            segments: HashMap::new(),
            input,
            unwritten: BytesMut::new(),
            output: Some(output),
            came: BytesMut::new(),
            is_leased: !task.0["answers"].is_null(),
            exit: None,
            is_gone: false,
            heard: Vec::new(),
        })
    }
}

fn request(options: &Options, id: u64) -> Result<StartRequest, Stop> {
    let Some(name) = options.command.first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command").into());
    };
    let cwd = std::env::current_dir()?;
    let path = std::env::var_os("PATH");
    let program = match find_program(&name.to_string_lossy(), path.as_deref(), &cwd) {
        Lookup::Found(program) => program,
        _ => {
            let what = format!("there is no program `{}`", name.to_string_lossy());
            return Err(io::Error::new(io::ErrorKind::NotFound, what).into());
        }
    };
    let own = [
        ("MPFLOW_TASK", TASK_FD.to_string()),
        ("MPFLOW_CONTROL", CONTROL_FD.to_string()),
        ("MPFLOW_WORKER", "worker".to_owned()),
        ("MPFLOW_RANK", "0".to_owned()),
        ("MPFLOW_POOL", "1".to_owned()),
        // A variable that nobody knows means nothing.
        ("MPFLOW_UNHEARD_OF", "1".to_owned()),
    ];
    let inherited = std::env::vars_os().filter(|(name, _)| !name.as_bytes().starts_with(b"MPFLOW_"));
    let env = inherited.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let env = env.chain(own.map(|(name, value)| format!("{name}={value}").into_bytes())).collect();
    let argv = options.command.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    let (program, cwd) = (program.into_os_string().into_vec(), cwd.into_os_string().into_vec());
    Ok(StartRequest { id, program, argv, env, cwd, ..StartRequest::default() })
}
