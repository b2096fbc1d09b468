//! The Python package that workers run, tested in Python: `tests/sdk/` has a stand-in for the engine.
//!
//! `MPFLOW_TEST_PYTHONS` may name further interpreters, separated by colons.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_python_package_passes_its_own_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let further = std::env::var("MPFLOW_TEST_PYTHONS").unwrap_or_default();
    let pythons = ["python3"].into_iter().chain(further.split(':').filter(|python| !python.is_empty()));
    let mut modules: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".py")?.to_owned()))
        .filter(|name| name.starts_with("test_"))
        .collect();
    modules.sort();
    assert!(!modules.is_empty(), "no tests are in {}", folder.display());
    for python in pythons {
        // All at once: most of their time is the starting of interpreters.
        let running: Vec<_> = modules
            .iter()
            .map(|module| {
                let tests = Command::new(python)
                    .args(["-W", "error::ResourceWarning", "-m", "unittest", module])
                    .current_dir(&folder)
                    .env_remove("PYTHONPATH")
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap_or_else(|error| panic!("cannot start {python}: {error}"));
                (module, tests)
            })
            .collect();
        let failed: Vec<String> = running
            .into_iter()
            .map(|(module, tests)| (module, tests.wait_with_output().unwrap()))
            .filter(|(_, output)| !output.status.success())
            .map(|(module, output)| {
                let (told, printed) =
                    (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
                format!("{python} -m unittest {module}: {}\n{told}{printed}", output.status)
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
