//! The Python package that workers of Python stages run: it lies in this program, and is written to a folder where an
//! interpreter can import it, and keep what it compiled of it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Every file of the package, by its place in it.
const FILES: &[(&str, &str)] = &include!("files.rs");

/// Where the package lies, once [`install`] has written it; always the same. Makes the folder, and nothing in it.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        candidates().into_iter().find(|folder| is_ours(folder)).unwrap_or_else(|| {
            let usable = candidates().into_iter().find(|folder| make(folder).is_ok());
            usable.unwrap_or_else(|| std::env::temp_dir().join(name()))
        })
    })
}

/// Writes the package, unless it is there already.
///
/// # Errors
///
/// None of the folders that it may lie in can be written.
pub(crate) fn install() -> io::Result<()> {
    let folder = folder();
    if is_complete(folder) {
        return Ok(());
    }
    make(folder)?;
    // Under another name first: several runs may begin at once, and none may see half of it.
    let parent = folder.parent().unwrap_or(folder);
    let beside = parent.join(format!("{}.{}", name(), uuid::Uuid::now_v7()));
    make(&beside)?;
    for (place, text) in FILES {
        let path = beside.join(place);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    // What lies there is not complete, or is not ours: it was cut off, or edited.
    if fs::rename(&beside, folder).is_err() && !is_complete(folder) {
        fs::remove_dir_all(folder)?;
        fs::rename(&beside, folder)?;
    }
    let _ = fs::remove_dir_all(&beside);
    Ok(())
}

/// A name that changes with every change of the package.
fn name() -> String {
    // FNV-1a, 64 bits, http://www.isthe.com/chongo/tech/comp/fnv/: it is not to resist anybody, the folder is private.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in FILES.iter().flat_map(|(place, text)| place.bytes().chain(text.bytes())) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("python-{hash:016x}")
}

/// The user's cache, or else a folder of the user's own among the temporary files.
fn candidates() -> Vec<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let user = nix::unistd::Uid::effective();
    let own = std::env::temp_dir().join(format!("mpflow-{user}"));
    cache
        .map(|cache| cache.join("mpflow"))
        .into_iter()
        .chain([own])
        .map(|folder| folder.join(name()))
        .collect()
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match is_ours(folder) && is_ours(folder.parent().unwrap_or(folder)) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("`{}` belongs to somebody else, or others may write to it", folder.display()),
        )),
    }
}

/// Whether nobody else can put code there.
fn is_ours(folder: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::Uid::effective().as_raw()
            && found.mode() & OTHERS_WRITE == 0
    })
}

fn is_complete(folder: &Path) -> bool {
    is_ours(folder)
        && FILES
            .iter()
            .all(|(place, text)| fs::read(folder.join(place)).is_ok_and(|found| found == text.as_bytes()))
}

/// Whether this names an interpreter of a virtual environment that is active where a worker runs.
pub(crate) fn interpreter(environment: Option<&OsStr>) -> Option<PathBuf> {
    let bin = Path::new(environment?).join("bin");
    ["python3", "python"].map(|name| bin.join(name)).into_iter().find(|program| program.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_in_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sdk/python");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                match path.extension().and_then(OsStr::to_str) {
                    _ if path.ends_with("__pycache__") => {}
                    None => folders.push(path),
                    Some("py" | "pyi") => found.push(path.strip_prefix(&root).unwrap().display().to_string()),
                    Some(_) => {}
                }
            }
        }
        found.sort();
        let mut listed: Vec<_> = FILES.iter().map(|(place, _)| (*place).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, found, "src/sdk/files.rs lists them");
    }
}
