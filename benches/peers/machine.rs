//! Where it ran.

use std::process::{Command, Stdio};

use crate::python;

/// The machine and the versions.
#[derive(Debug, serde::Serialize)]
pub(crate) struct About {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    /// Runnable processes of the last minute before and after: above the benchmark's own, others disturbed it.
    pub(crate) load: [String; 2],
    pub(crate) versions: Vec<String>,
}

impl About {
    pub(crate) fn new(load_before: String) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let versions = [
            ("mpflow", vec![env!("CARGO_PKG_VERSION").to_owned()]),
            ("cat, split", first_line("split", "--version")),
            ("xargs", first_line("xargs", "--version")),
            ("parallel", first_line("parallel", "--version")),
            ("mawk", first_line("mawk", "-Wversion")),
            ("Python", first_line("python3", "--version")),
            ("NumPy", python_package("numpy")),
            ("dora", python_package("dora-rs")),
            ("Ray", python_package("ray")),
        ];
        let say = |(name, line): (&str, Vec<String>)| match line.first() {
            Some(line) => format!("{name}: {line}"),
            None => format!("{name}: not here"),
        };
        Self {
            cpu: cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            cpus,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            load: [load_before, load()],
            versions: versions.map(say).to_vec(),
        }
    }
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn python_package(name: &str) -> Vec<String> {
    let Some(python) = python::interpreter() else { return Vec::new() };
    let say = format!("from importlib.metadata import version; print(version('{name}'))");
    let output = Command::new(python).args(["-c", &say]).stderr(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(ToOwned::to_owned).collect()
}

/// The load of the last minute.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn first_line(program: &str, option: &str) -> Vec<String> {
    let output = Command::new(program).arg(option).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().take(1).map(ToOwned::to_owned).collect()
}
