//! What the watched files hold now.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::hash::Hasher as _;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ignore::WalkBuilder;

use super::WatchSet;

/// Of a longer file only its size and times are looked at.
const LONGEST_BYTES: u64 = 64 << 20;

/// A file that has not been touched for so long has the content that was read then: the clock of files is coarse.
pub(super) const SETTLED: Duration = Duration::from_millis(100);

/// Files that match globs at most.
const MOST_GLOBBED: usize = 100_000;

/// The content of one file, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    hash: u64,
    bytes: u64,
}

/// A file as it was at one look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    content: Content,
    /// Of which state of the file the content is known; not of one that may still change unseen.
    state: Option<State>,
}

/// Changes with every change of the content, but for the coarseness of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    inode: (u64, u64),
    changed: (i64, i64),
    bytes: u64,
}

impl State {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            changed: (file.ctime(), file.ctime_nsec()),
            bytes: file.len(),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        self.is_older(now - SETTLED)
    }

    fn is_older(&self, moment: SystemTime) -> bool {
        let moment = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed =
            Duration::new(self.changed.0.max(0).unsigned_abs(), u32::try_from(self.changed.1).unwrap_or(0));
        changed < moment
    }
}

/// All that was seen at one look: what is not among it is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    files: BTreeMap<PathBuf, Seen>,
}

impl Look {
    /// Looks at all files of the set. What has the same state as `before` is not read again.
    pub(super) fn take(set: &WatchSet, before: &Self) -> Self {
        let named = set.files.keys().cloned();
        let files =
            named.chain(globbed(set)).filter_map(|file| Some((file.clone(), see(&file, before)?))).collect();
        Self { files }
    }

    /// The files that differ between two looks. A file that is not there, or empty, may be about to be written: those
    /// that were something else before come apart.
    pub(super) fn differences(&self, before: &Self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let old = before
            .files
            .iter()
            .filter(|(file, seen)| self.files.get(*file).is_none_or(|now| now.content != seen.content));
        let new = self.files.iter().filter(|(file, _)| !before.files.contains_key(*file));
        let changed = old.map(|(file, _)| file).chain(new.map(|(file, _)| file)).cloned();
        changed.partition(|file| self.files.get(file).is_some_and(|seen| seen.content.bytes > 0))
    }

    /// The same, with what another look says of these files.
    pub(super) fn without(mut self, files: &[PathBuf], other: &Self) -> Self {
        for file in files {
            match other.files.get(file) {
                Some(seen) => drop(self.files.insert(file.clone(), *seen)),
                None => drop(self.files.remove(file)),
            }
        }
        self
    }

    /// What is not in this look, as another has it: files that are watched from now on have changed only from now on.
    pub(super) fn completed(mut self, other: &Self) -> Self {
        for (file, seen) in &other.files {
            self.files.entry(file.clone()).or_insert(*seen);
        }
        self
    }
}

/// What a file holds, if there is one.
pub(super) fn content_of(file: &Path) -> Option<Content> {
    let metadata = fs::metadata(file).ok().filter(Metadata::is_file)?;
    Some(Content { hash: hash(file, &metadata).ok()?, bytes: metadata.len() })
}

/// The same of a file that may still change without another change time; none of one that was not touched for a while.
pub(super) fn content_if_young(file: &Path) -> Option<Content> {
    let state = State::of(&fs::metadata(file).ok()?);
    if state.is_settled(SystemTime::now()) { None } else { content_of(file) }
}

/// Whether there is a file that was changed after this moment.
pub(super) fn is_younger(file: &Path, moment: SystemTime) -> bool {
    fs::metadata(file).is_ok_and(|metadata| !State::of(&metadata).is_older(moment))
}

fn see(file: &Path, before: &Look) -> Option<Seen> {
    let metadata = fs::metadata(file).ok().filter(Metadata::is_file)?;
    let state = State::of(&metadata);
    if let Some(old) = before.files.get(file)
        && old.state == Some(state)
    {
        return Some(*old);
    }
    let content = content_of(file)?;
    Some(Seen { content, state: state.is_settled(SystemTime::now()).then_some(state) })
}

fn hash(file: &Path, metadata: &Metadata) -> io::Result<u64> {
    let mut hasher = std::hash::DefaultHasher::new();
    if metadata.len() > LONGEST_BYTES {
        hasher.write_i64(metadata.mtime());
        hasher.write_i64(metadata.mtime_nsec());
        return Ok(hasher.finish());
    }
    let mut file = File::open(file)?.take(LONGEST_BYTES);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.write(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What lies below the globs' folders, as `.gitignore` has it.
fn walk(set: &WatchSet) -> impl Iterator<Item = ignore::DirEntry> {
    let mut bases: Vec<&Path> = set.globs.iter().map(|glob| glob.base.as_path()).collect();
    bases.sort_unstable();
    // What lies below another is walked with it.
    bases.dedup_by(|base, before| base.starts_with(before));
    bases.into_iter().flat_map(|base| {
        let mut walk = WalkBuilder::new(base);
        let is_git = |entry: &ignore::DirEntry| entry.file_name() == ".git" && entry.depth() > 0;
        walk.hidden(false).require_git(false).filter_entry(move |entry| !is_git(entry));
        walk.build().flatten()
    })
}

/// The files that match globs of stages.
pub(super) fn globbed(set: &WatchSet) -> impl Iterator<Item = PathBuf> {
    let files = walk(set).filter(|entry| entry.file_type().is_some_and(|kind| !kind.is_dir()));
    let matching = files.map(ignore::DirEntry::into_path).filter(|file| set.globs_of(file).next().is_some());
    matching.take(MOST_GLOBBED)
}

/// The folders whose events tell of changes: those of all files, or where one is missing of what would hold it, and all
/// below the globs.
pub(super) fn folders(set: &WatchSet) -> Vec<PathBuf> {
    let of_file =
        |file: &PathBuf| file.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned);
    let below = walk(set).filter(|entry| entry.file_type().is_some_and(|kind| kind.is_dir()));
    let mut folders: Vec<PathBuf> =
        set.files.keys().filter_map(of_file).chain(below.map(ignore::DirEntry::into_path)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}
