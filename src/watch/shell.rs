//! The thread that waits for the kernel's events, looks, and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use nix::sys::statfs::statfs;
use notify::{EventKind, RecommendedWatcher, RecursiveMode};

use super::WatchSet;
use super::gather::Gather;
use super::guard::{Guard, Verdict};
use super::look::{Look, folders};

/// Where the kernel does not tell, files are looked at so often.
const POLL: Duration = Duration::from_millis(500);

/// A file that is not there, or is empty, may be on its way: so long it is waited for.
const ON_ITS_WAY: Duration = Duration::from_millis(400);

/// Folders that come while others are begun to be watched are looked for so often; whoever makes them goes on to make
/// events.
const MOST_ROUNDS: usize = 8;

/// What a watcher tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Files have other contents than before.
    Changed(Changed),
    /// From now on changes of a file do not concern a stage any more: it makes them itself.
    Cut {
        /// The stage.
        stage: String,
        /// The file, from the pipeline's folder on.
        file: String,
    },
    /// The kernel cannot tell of changes; they are looked for twice a second.
    Polls {
        /// Why, and what to do about it.
        why: String,
    },
}

/// Files that have other contents than before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// From the pipeline's folder on.
    pub files: Vec<String>,
    /// The stages that run them, and the first such file of each.
    pub stages: BTreeMap<String, String>,
    /// The document, or what belongs to it, is among them.
    pub is_document: bool,
}

/// Watches a set of files, on a thread of its own. Dropped, it ends.
#[derive(Debug)]
pub struct Watcher {
    told: Receiver<Told>,
    sets: Option<Sender<WatchSet>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to watch: whatever changes after this returns is told of.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub fn start(set: WatchSet) -> io::Result<Self> {
        Self::start_so(set, Looker::watch_folders)
    }

    /// The same by looking twice a second, wherever the files are: for folders of which the kernel does not tell, and whose
    /// file system does not say so. The first that is told is [`Told::Polls`].
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub fn start_polling(set: WatchSet) -> io::Result<Self> {
        Self::start_so(set, |looker| looker.poll("that was asked for"))
    }

    fn start_so(set: WatchSet, begin: impl FnOnce(&mut Looker)) -> io::Result<Self> {
        let ((told_to, told), (sets, new_sets)) = (unbounded(), unbounded());
        let (events_to, events) = unbounded();
        let mut looker = Looker::new(set, told_to, events_to);
        begin(&mut looker);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || looker.run(&events, &new_sets))?;
        Ok(Self { told, sets: Some(sets), thread: Some(thread) })
    }

    /// What it tells.
    pub fn told(&self) -> &Receiver<Told> {
        &self.told
    }

    /// Watches another set from now on. Of files that are in both nothing is lost.
    pub fn update(&self, set: WatchSet) {
        if let Some(sets) = &self.sets {
            // Its thread lives as long as this value.
            let _ = sets.send(set);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.sets = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that watches files has panicked");
        }
    }
}

/// What the thread holds.
struct Looker {
    set: WatchSet,
    told: Sender<Told>,
    events: Sender<notify::Result<notify::Event>>,
    /// Until it is asked, and where it cannot tell, `None`.
    kernel: Option<RecommendedWatcher>,
    /// It was said that it polls.
    polls: bool,
    watched: BTreeSet<PathBuf>,
    seen: Look,
    gather: Gather,
    guard: Guard,
    /// Files that have vanished, and until when they are waited for.
    vanished: Option<(Vec<PathBuf>, Instant)>,
}

impl Looker {
    fn new(set: WatchSet, told: Sender<Told>, events: Sender<notify::Result<notify::Event>>) -> Self {
        let seen = Look::take(&set, &Look::default());
        Self {
            set,
            told,
            events,
            kernel: None,
            polls: false,
            watched: BTreeSet::new(),
            seen,
            gather: Gather::default(),
            guard: Guard::default(),
            vanished: None,
        }
    }

    fn run(mut self, events: &Receiver<notify::Result<notify::Event>>, sets: &Receiver<WatchSet>) {
        let mut polls = if self.polls { crossbeam_channel::tick(POLL) } else { never() };
        loop {
            let vanished = self.vanished.as_ref().map(|(_, until)| *until);
            let due = [self.gather.due(), vanished].into_iter().flatten().min();
            let timer = due.map_or_else(never, crossbeam_channel::at);
            select! {
                recv(sets) -> set => match set {
                    Ok(set) => self.change_set(set),
                    Err(_) => return,
                },
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event),
                    Err(_) => return,
                },
                recv(polls) -> _ => self.look(),
                recv(timer) -> _ => {}
            }
            let now = Instant::now();
            if self.gather.take(now) || self.vanished.as_ref().is_some_and(|(_, until)| *until <= now) {
                // In this order: what comes into a new folder is there by the look, or is told of.
                self.watch_folders();
                self.look();
                if self.polls {
                    polls = crossbeam_channel::tick(POLL);
                }
            }
        }
    }

    fn change_set(&mut self, set: WatchSet) {
        // Files that were not watched have changed only from now on.
        let now = Look::take(&set, &self.seen);
        self.seen = std::mem::take(&mut self.seen).completed(&now);
        self.set = set;
        self.watch_folders();
        // What has changed between the look and the first event.
        self.gather.note(Instant::now());
    }

    fn hear(&mut self, event: notify::Result<notify::Event>) {
        let is_worth_a_look = match event {
            // One's own reading makes these.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
            Ok(event) => event.need_rescan() || event.paths.iter().any(|path| self.set.concerns(path)),
            Err(error) => {
                tracing::debug!(%error, "an event of a file was lost");
                true
            }
        };
        if is_worth_a_look {
            self.gather.note(Instant::now());
        }
    }

    /// Looks at all files, and tells what has changed.
    fn look(&mut self) {
        let now = Look::take(&self.set, &self.seen);
        let (mut changed, vanished) = now.differences(&self.seen);
        let at = Instant::now();
        let is_over = |(waited, until): &(Vec<PathBuf>, Instant)| *until <= at && *waited == vanished;
        if vanished.is_empty() {
            self.vanished = None;
            self.seen = now;
        } else if self.vanished.as_ref().is_some_and(is_over) {
            self.vanished = None;
            changed.extend(vanished);
            self.seen = now;
        } else {
            // They are still as they were, as far as anybody has been told.
            let old = std::mem::take(&mut self.seen);
            self.seen = now.without(&vanished, &old);
            match &self.vanished {
                Some((waited, _)) if *waited == vanished => {}
                _ => self.vanished = Some((vanished, at + ON_ITS_WAY)),
            }
        }
        let changed = self.concerned(&changed, at);
        if !changed.files.is_empty() {
            let _ = self.told.send(Told::Changed(changed));
        }
    }

    /// Whom these changes concern.
    fn concerned(&mut self, files: &[PathBuf], now: Instant) -> Changed {
        let mut changed = Changed::default();
        for file in files {
            let shown = self.set.shown(file);
            let by_name = self.set.files.get(file);
            let mut stages: BTreeSet<&str> = by_name.into_iter().flatten().map(String::as_str).collect();
            let is_document = by_name.is_some_and(BTreeSet::is_empty);
            for stage in self.set.globs_of(file) {
                match self.guard.judge(stage, file, now) {
                    Verdict::Pass => drop(stages.insert(stage)),
                    Verdict::Ignored => {}
                    Verdict::Cut => {
                        let _ = self.told.send(Told::Cut { stage: stage.to_owned(), file: shown.clone() });
                    }
                }
            }
            if is_document || !stages.is_empty() {
                changed.is_document |= is_document;
                for stage in stages {
                    changed.stages.entry(stage.to_owned()).or_insert_with(|| shown.clone());
                }
                changed.files.push(shown);
            }
        }
        changed
    }

    /// Has the kernel tell of what happens in the folders of the set; where it cannot, says so and polls from now on.
    fn watch_folders(&mut self) {
        // One may come into a new folder just before that is watched.
        for _ in 0..MOST_ROUNDS {
            let wanted: BTreeSet<PathBuf> = folders(&self.set).into_iter().collect();
            let is_new = wanted.difference(&self.watched).next().is_some();
            self.watch_these(wanted);
            if !is_new {
                return;
            }
        }
    }

    fn watch_these(&mut self, wanted: BTreeSet<PathBuf>) {
        if self.polls {
            return;
        }
        if self.kernel.is_none() {
            let events = self.events.clone();
            match notify::recommended_watcher(move |event| drop(events.send(event))) {
                Ok(kernel) => self.kernel = Some(kernel),
                Err(error) => return self.poll(&explain(&error)),
            }
        }
        if let Some(folder) = wanted.iter().find(|folder| is_remote(folder)) {
            return self.poll(&format!(
                "`{}` is on another machine, or a file system of a program",
                folder.display()
            ));
        }
        let Some(kernel) = &mut self.kernel else { return };
        for folder in self.watched.difference(&wanted) {
            let _ = notify::Watcher::unwatch(kernel, folder);
        }
        let mut failure = None;
        for folder in &wanted {
            // Watched anew each time: one that was moved away and made again has another inode.
            if let Err(error) = notify::Watcher::watch(kernel, folder, RecursiveMode::NonRecursive)
                && folder.is_dir()
            {
                failure = Some(explain(&error));
            }
        }
        match failure {
            Some(why) => self.poll(&why),
            None => self.watched = wanted,
        }
    }

    fn poll(&mut self, why: &str) {
        self.kernel = None;
        self.polls = true;
        let _ = self.told.send(Told::Polls { why: why.to_owned() });
    }
}

/// Why the kernel does not tell of changes, with the setting that would help.
fn explain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the kernel watches no more files for this user: raise `fs.inotify.max_user_watches`".to_owned()
        }
        notify::ErrorKind::Io(error) if error.raw_os_error() == Some(nix::libc::EMFILE) => {
            "the kernel has no more inotify instances for this user: raise `fs.inotify.max_user_instances`"
                .to_owned()
        }
        _ => format!("the kernel does not watch files: {error}"),
    }
}

/// File systems on which others may write without this kernel's knowledge: their types in linux/magic.h. An
/// overlay is none, since only this kernel writes to it.
const REMOTE: [u32; 10] = [
    0x6969,      // NFS_SUPER_MAGIC
    0x517b,      // SMB_SUPER_MAGIC
    0xff53_4d42, // CIFS_SUPER_MAGIC
    0xfe53_4d42, // SMB2_SUPER_MAGIC
    0x0102_1997, // V9FS_MAGIC
    0x6573_5546, // FUSE_SUPER_MAGIC
    0x5346_414f, // AFS_SUPER_MAGIC
    0x6b41_4653, // AFS_FS_MAGIC
    0x7375_7245, // CODA_SUPER_MAGIC
    0x00c3_6400, // CEPH_SUPER_MAGIC
];

fn is_remote(folder: &Path) -> bool {
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "its width differs between machines")]
    statfs(folder).is_ok_and(|found| is_remote_type(found.filesystem_type().0 as i64))
}

/// `f_type` of statfs(2), which may be a number of 32 bits with its sign drawn out.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only these 32 bits count")]
fn is_remote_type(of: i64) -> bool {
    REMOTE.contains(&(of as u32))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nfs(0x6969, true)]
    #[case::cifs(0xff53_4d42, true)]
    #[case::cifs_where_the_number_has_a_sign(-11_317_950, true)]
    #[case::a_virtual_machines_host(0x0102_1997, true)]
    #[case::fuse_as_sshfs(0x6573_5546, true)]
    #[case::ext4(0xef53, false)]
    #[case::btrfs(0x9123_683e, false)]
    #[case::tmpfs(0x0102_1994, false)]
    #[case::overlay(0x794c_7630, false)]
    fn files_are_polled_where_others_write_past_this_kernel(#[case] kind: i64, #[case] is_polled: bool) {
        assert_eq!(is_remote_type(kind), is_polled);
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_remote_one() {
        assert!(!is_remote(Path::new("/nonexistent/folder")));
    }
}
