//! A folder for each run, for its sockets, that only its user can enter.
//!
//! `$XDG_RUNTIME_DIR/mpflow/RUN_ID`, or `mpflow-UID/RUN_ID` under the temporary folder. A run holds a lock on its folder
//! (flock(2) on the folder itself), which the kernel releases when the engine dies, however it dies: so the next run
//! knows which folders are left over, and removes them.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, geteuid};

/// A socket's path is at most so long, with its end: unix(7).
const LONGEST_SOCKET_PATH: usize = 108;

/// Room for the name of a socket in a run's folder.
const SOCKET_NAME: usize = 16;

/// Attempts at a folder that another run takes for a left-over one, in the moment between its making and its lock.
const ATTEMPTS: usize = 8;

/// Names of runs: UUIDs. What else is there is not ours to remove.
const RUN_ID_LENGTH: usize = 36;

/// Where the folder of one run is, or will be: it is made when it is first needed, and removed when nobody needs it.
#[derive(Debug)]
pub(crate) struct FolderOf {
    run_id: String,
    made: Mutex<Weak<RunFolder>>,
}

impl FolderOf {
    pub(crate) fn new(run_id: String) -> Self {
        Self { run_id, made: Mutex::default() }
    }

    /// The run's id.
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The folder, made now if it is not there.
    pub(crate) fn open(&self) -> io::Result<Arc<RunFolder>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = made.upgrade() {
            return Ok(folder);
        }
        let folder = Arc::new(RunFolder::create(&self.run_id)?);
        *made = Arc::downgrade(&folder);
        Ok(folder)
    }
}

/// The folders of all runs of this user that go on and can be found from here, by the run's id; those of dead runs
/// are removed.
pub(crate) fn living() -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> =
        bases().iter().filter(|base| is_private(base).is_ok()).flat_map(|base| living_in(base)).collect();
    found.sort();
    found
}

/// The folders of living runs in here; those of dead ones are removed.
fn living_in(base: &Path) -> Vec<(String, PathBuf)> {
    let names = fs::read_dir(base).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut living = Vec::new();
    for name in names.filter(|name| is_run_id(name)) {
        let path = base.join(&name);
        let Ok(file) = File::open(&path) else { continue };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err(_) => living.push((name.to_string_lossy().into_owned(), path)),
            Ok(_lock) => {
                if let Err(error) = fs::remove_dir_all(&path) {
                    tracing::debug!(%error, path = %path.display(), "cannot remove what a dead run left");
                }
            }
        }
    }
    living
}

/// The folder of a run that goes on. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RunFolder {
    /// Makes the folder of this run, and removes those of dead ones.
    pub(crate) fn create(run_id: &str) -> io::Result<Self> {
        let mut refusals = Vec::new();
        for base in bases() {
            let length = base.as_os_str().len() + run_id.len() + SOCKET_NAME + 2;
            if length > LONGEST_SOCKET_PATH {
                refusals.push(format!("`{}` is too long for the path of a socket", base.display()));
                continue;
            }
            match Self::create_in(&base, run_id) {
                Ok(folder) => {
                    living_in(&base);
                    return Ok(folder);
                }
                Err(error) => refusals.push(format!("`{}`: {error}", base.display())),
            }
        }
        Err(io::Error::other(format!("no folder for the run's sockets: {}", refusals.join("; "))))
    }

    fn create_in(base: &Path, run_id: &str) -> io::Result<Self> {
        let path = base.join(run_id);
        for _ in 0..ATTEMPTS {
            prepare(base)?;
            match DirBuilder::new().mode(0o700).create(&path) {
                // The last of other runs has just gone, and the folder of all with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            // Another run may look at it between these steps, see that nobody has locked it, and remove it.
            let Ok(file) = File::open(&path) else { continue };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            let (ours, there) = (lock.metadata()?, fs::symlink_metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::Error::other("others remove what is made in it"))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the folder of this run");
        }
        // Where it was the last, nothing is left; where others are in there, this does nothing.
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

fn is_run_id(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() == RUN_ID_LENGTH && name.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Where run folders may be, the best first.
fn bases() -> Vec<PathBuf> {
    let of_user = format!("mpflow-{}", geteuid());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_absolute() && is_private(path).is_ok());
    let mut bases: Vec<PathBuf> = runtime.map(|path| path.join("mpflow")).into_iter().collect();
    for folder in [std::env::temp_dir(), PathBuf::from("/tmp")] {
        let base = folder.join(&of_user);
        if base.is_absolute() && !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// Makes the folder that run folders lie in, unless it is there and nobody else can enter it.
fn prepare(base: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => is_private(base),
    }
}

/// Anybody may make a folder, or a link to one, in the temporary folder: only one of our own is to be trusted.
fn is_private(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let refusal = match () {
        () if !found.is_dir() => "it is not a folder",
        () if Uid::from_raw(found.uid()) != geteuid() => "it belongs to another user",
        () if found.mode() & 0o077 != 0 => "others may enter it: `chmod 700` it",
        () => return Ok(()),
    };
    Err(io::Error::other(refusal))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const RUN: &str = "01980000-0000-7000-8000-000000000001";
    const DEAD: &str = "01980000-0000-7000-8000-000000000002";

    #[test]
    fn a_run_removes_its_folder_and_those_of_dead_runs_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let base = &folder.path().join("mpflow");
        prepare(base).unwrap();
        for name in [DEAD, "notes", "01980000-0000-7000-8000-00000000000x"] {
            fs::create_dir(base.join(name)).unwrap();
            fs::write(base.join(name).join("shared"), "").unwrap();
        }
        let living = RunFolder::create_in(base, "01980000-0000-7000-8000-000000000003").unwrap();
        let folder = RunFolder::create_in(base, RUN).unwrap();
        let mut found = living_in(base);
        found.sort();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [RUN, "01980000-0000-7000-8000-000000000003"]);
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        assert!(!base.join(DEAD).exists());
        assert!(living.path().exists());
        drop(folder);
        drop(living);
        let mut left: Vec<_> = fs::read_dir(base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["01980000-0000-7000-8000-00000000000x", "notes"]);
    }

    #[test]
    fn the_last_run_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("mpflow");
        let first = RunFolder::create_in(&base, RUN).unwrap();
        let second = RunFolder::create_in(&base, DEAD).unwrap();
        drop(first);
        assert!(second.path().exists());
        drop(second);
        assert!(!base.exists());
        RunFolder::create_in(&base, RUN).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_enter_or_a_link_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(prepare(&open).is_err());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
        prepare(&open).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(prepare(&link).is_err());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(prepare(&file).is_err());
    }
}
