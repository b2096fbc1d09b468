//! Which files a pipeline runs from, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};

use super::look::{Content, SETTLED, content_if_young, content_of, globbed, is_younger};

use crate::model::{Body, Command, PerWorker, Pipeline, Redirect, Stage};
use crate::process::{Lookup, find_program};

/// Files of one stage at most: more are not anybody's own modules.
const MOST_FILES: usize = 10_000;

/// A glob of a stage's `watch`.
#[derive(Debug, Clone)]
pub(super) struct StageGlob {
    pub(super) stage: String,
    pub(super) matcher: GlobMatcher,
    /// The folder below which everything lies that may match.
    pub(super) base: PathBuf,
}

/// The files that a pipeline runs from. Two sets can be compared only by what they watch.
#[derive(Debug, Clone, Default)]
pub struct WatchSet {
    root: PathBuf,
    /// With each the stages that it concerns; none for those of the document itself.
    pub(super) files: BTreeMap<PathBuf, BTreeSet<String>>,
    pub(super) globs: Vec<StageGlob>,
    /// What stages write by the document's own word.
    written: BTreeSet<PathBuf>,
}

impl WatchSet {
    /// The document and what belongs to it, and of each stage what its declaration names and lies in the pipeline's
    /// folder: the program and the arguments of its command that are files, the modules of its Python functions, its
    /// `watch` globs. What its workers import besides is known when they have done so: [`WatchSet::add`].
    ///
    /// The paths are absolute. A glob that is none is left out.
    pub(crate) fn of(pipeline: &Pipeline, documents: &[PathBuf]) -> Self {
        let mut set = Self { root: normal(&pipeline.dir), ..Self::default() };
        documents.iter().for_each(|file| set.add_document(file));
        pipeline.stages.iter().for_each(|stage| set.add_written(stage));
        pipeline.stages.iter().for_each(|stage| set.add_stage(stage));
        set
    }

    /// A document that could not be read as a pipeline, by its absolute path: nothing else is known.
    pub fn of_document(document: &Path) -> Self {
        let mut set = Self::default();
        set.add_document(document);
        set
    }

    fn add_document(&mut self, file: &Path) {
        self.files.entry(normal(file)).or_default();
    }

    /// A file that a stage runs, if it lies in the pipeline's folder. Returns whether that is news.
    pub fn add(&mut self, stage: &str, file: &Path) -> bool {
        let file = normal(file);
        if !file.starts_with(&self.root) || self.written.contains(&file) {
            return false;
        }
        let count = self.files.values().filter(|stages| stages.contains(stage)).count();
        count < MOST_FILES && self.files.entry(file).or_default().insert(stage.to_owned())
    }

    fn add_written(&mut self, stage: &Stage) {
        let redirects = stage.stdout.iter().chain([&stage.stderr]).flat_map(PerWorker::all);
        for redirect in redirects {
            if let Redirect::File(path) = redirect {
                self.written.insert(normal(&self.root.join(path)));
            }
        }
    }

    fn add_stage(&mut self, stage: &Stage) {
        let cwds: Vec<PathBuf> = stage.cwd.all().iter().map(|cwd| self.root.join(cwd)).collect();
        match &stage.body {
            Body::Command(commands) => {
                let words: BTreeSet<String> = commands.all().iter().flat_map(words_of).collect();
                for (word, cwd) in words.iter().flat_map(|word| cwds.iter().map(move |cwd| (word, cwd))) {
                    self.add_if_file(&stage.name, &cwd.join(word));
                }
                for (name, cwd) in commands.all().iter().filter_map(program_of).zip(cwds.iter().cycle()) {
                    let path = std::env::var_os("PATH");
                    if let Lookup::Found(file) = find_program(&name, path.as_deref(), cwd) {
                        self.add_if_file(&stage.name, &file);
                    }
                }
            }
            Body::Python(target) => {
                self.add_python(&stage.name, target);
                stage.initializer.iter().for_each(|target| self.add_python(&stage.name, target));
                for module in &stage.preload {
                    self.add_module(&stage.name, module);
                }
            }
            Body::Function(_) => {}
        }
        for glob in &stage.watch {
            self.add_glob(&stage.name, glob);
        }
    }

    /// `module:callable` or `path/file.py:callable`. The file need not be there: that may be what is about to change.
    fn add_python(&mut self, stage: &str, target: &str) {
        let place = target.rsplit_once(':').map_or(target, |(place, _)| place);
        if place.ends_with(".py") || place.contains('/') {
            self.add(stage, &self.root.join(place));
        } else {
            self.add_module(stage, place);
        }
    }

    fn add_module(&mut self, stage: &str, module: &str) {
        let path = self.root.join(module.replace('.', "/"));
        let candidates = [path.with_extension("py"), path.join("__init__.py")];
        // Where neither is there it may be about to come, or be installed elsewhere.
        let found: Vec<&PathBuf> = candidates.iter().filter(|file| file.is_file()).collect();
        match found[..] {
            [] => {
                self.add(stage, &candidates[0]);
            }
            _ => {
                for file in found {
                    self.add(stage, file);
                }
            }
        }
    }

    fn add_if_file(&mut self, stage: &str, path: &Path) {
        if path.is_file() {
            self.add(stage, path);
        }
    }

    fn add_glob(&mut self, stage: &str, glob: &str) {
        let path = self.root.join(glob);
        let text = path.to_string_lossy();
        let Ok(glob) = GlobBuilder::new(&text).literal_separator(true).build() else { return };
        let plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
        let mut base: PathBuf = path.components().take_while(plain).collect();
        if !base.is_dir() {
            base.pop();
        }
        self.globs.push(StageGlob { stage: stage.to_owned(), matcher: glob.compile_matcher(), base });
    }

    /// The stages that watch this file by a glob, though not what they write by the document's own word.
    pub(super) fn globs_of<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = &'a str> {
        let globs = self.globs.iter().filter(move |glob| glob.matcher.is_match(file));
        globs.map(|glob| glob.stage.as_str()).filter(move |_| !self.written.contains(file))
    }

    /// Whether an event of this path is worth a look.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        // A folder that comes or goes may have files in it.
        let is_above = || self.files.keys().any(|file| file.starts_with(path));
        let in_glob = || self.globs.iter().any(|glob| glob.matcher.is_match(path));
        let new_folder = || path.is_dir() && self.globs.iter().any(|glob| path.starts_with(&glob.base));
        self.files.contains_key(path) || is_above() || in_glob() || new_folder()
    }

    /// The files that are watched by name, with the stages that each concerns; none for those of the document itself.
    pub fn files(&self) -> impl Iterator<Item = (&Path, impl Iterator<Item = &str>)> {
        self.files.iter().map(|(file, stages)| (file.as_path(), stages.iter().map(String::as_str)))
    }

    /// What the files that are watched by name are now, for [`WatchSet::changed_since`].
    pub fn known(&self) -> Known {
        let files = self.files.keys().map(|file| (file.clone(), content_if_young(file)));
        Known { at: SystemTime::now(), files: files.collect() }
    }

    /// The files of stages that were written, or put where they are, since then: by the name of the stage, one of them as
    /// people write it. Of a file that was not watched by name then, its change time alone tells: a change in the few
    /// milliseconds after that moment may seem older, by the coarse clock of files.
    pub fn changed_since(&self, known: &Known) -> BTreeMap<String, String> {
        let named = self.files.iter().filter(|(_, stages)| !stages.is_empty());
        let named = named.flat_map(|(file, stages)| stages.iter().map(|stage| (file.clone(), stage.clone())));
        let globbed = globbed(self).flat_map(|file| {
            let stages: Vec<String> = self.globs_of(&file).map(str::to_owned).collect();
            stages.into_iter().map(move |stage| (file.clone(), stage))
        });
        let mut changed = BTreeMap::new();
        for (file, stage) in named.chain(globbed).filter(|(file, _)| known.has_changed(file)) {
            changed.entry(stage).or_insert_with(|| self.shown(&file));
        }
        changed
    }

    /// A path as people write it, from the pipeline's folder on.
    pub(super) fn shown(&self, file: &Path) -> String {
        file.strip_prefix(&self.root).unwrap_or(file).display().to_string()
    }
}

/// What files were at one moment.
#[derive(Debug, Clone)]
pub struct Known {
    at: SystemTime,
    /// Of those that had just been written the content, since another change may bear the same time.
    files: BTreeMap<PathBuf, Option<Content>>,
}

impl Known {
    fn has_changed(&self, file: &Path) -> bool {
        match self.files.get(file) {
            Some(Some(content)) => content_of(file).is_some_and(|now| now != *content),
            // It was older than that, and is not.
            Some(None) => is_younger(file, self.at - SETTLED),
            None => is_younger(file, self.at),
        }
    }
}

/// A path without `.` and `..`, as far as they can be told without a look.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

/// The words of a command that may be names of files.
fn words_of(command: &Command) -> Vec<String> {
    match command {
        Command::Argv(words) => words.iter().filter(|word| !word.contains('{')).cloned().collect(),
        Command::Shell(script) => words_of_script(script),
    }
}

/// What a shell would take for a word, roughly: a word that is no file does no harm. What it redirects to is written, and
/// not read.
fn words_of_script(script: &str) -> Vec<String> {
    let spaced = script.replace(">>", ">").replace('>', " > ");
    let separators = |char: char| char.is_whitespace() || ";|&()<\"'`=".contains(char);
    let mut is_written = false;
    let mut words = Vec::new();
    for word in spaced.split(separators).filter(|word| !word.is_empty()) {
        if word == ">" {
            is_written = true;
        } else if !std::mem::take(&mut is_written) && !word.contains(['{', '$', '*']) {
            words.push(word.to_owned());
        }
    }
    words
}

fn program_of(command: &Command) -> Option<String> {
    words_of(command).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_writes_is_not_what_it_runs() {
        let words =
            words_of_script("python3 ./a.py <in.txt >out.txt | sort -k2 >> 'log' && X=c.sh sh d.sh {} $y");
        assert_eq!(words, ["python3", "./a.py", "in.txt", "sort", "-k2", "X", "c.sh", "sh", "d.sh"]);
    }

    #[test]
    fn a_path_is_one_however_it_is_written() {
        assert_eq!(normal(Path::new("/p/./a/../b//c")), Path::new("/p/b/c"));
    }
}
