//! Changes of files: what is watched, and what is told (section 8 of the language).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mpflow::Pipeline;
use mpflow::watch::{Changed, Told, WatchSet, Watcher};
use tempfile::TempDir;

/// What is to be told is told within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a pipeline in it, and these files.
struct Project {
    folder: TempDir,
}

impl Project {
    fn new(pipeline: &str, files: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let this = Self { folder };
        this.save("pipeline.yaml", pipeline);
        files.iter().for_each(|name| this.save(name, "before"));
        this
    }

    /// Without the links that a temporary folder may be reached by.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn save(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set(&self) -> WatchSet {
        let path = self.path("pipeline.yaml");
        Pipeline::from_path(&path).unwrap().watch_set()
    }

    fn watch(&self) -> Watcher {
        Watcher::start(self.set()).unwrap()
    }

    /// The watched files by their names, with their stages.
    fn watched(&self) -> BTreeMap<String, Vec<String>> {
        let root = self.path("");
        let name = |file: &Path| file.strip_prefix(&root).unwrap().display().to_string();
        self.set().files().map(|(file, stages)| (name(file), stages.map(str::to_owned).collect())).collect()
    }
}

#[track_caller]
fn next(watcher: &Watcher) -> Changed {
    match watcher.told().recv_timeout(PATIENCE).expect("a change") {
        Told::Changed(changed) => changed,
        other => panic!("{other:?}"),
    }
}

/// Nothing but this change is told: what was done before it is seen before it.
#[track_caller]
fn only(watcher: &Watcher, project: &Project, name: &str) {
    project.save(name, &format!("{:?}", Instant::now()));
    let changed = next(watcher);
    assert_eq!(changed.files, [name.to_owned()]);
}

const STAGES: &str = "
stages:
  shell: {command: 'sh ./run.sh data.txt > out.txt'}
  list:  {command: [./tool, --config, conf.ini, /etc/hosts]}
  python: {python: 'tasks:square'}
  file:   {python: 'pkg/more.py:f', initializer: 'pkg.setup:init'}
  globs:  {command: cat, watch: ['templates/**/*.html'], stdout: 'templates/made.html'}
";

#[test]
fn the_files_of_each_stage_that_lie_in_the_pipelines_folder_are_watched() {
    let files = [
        "run.sh",
        "data.txt",
        "out.txt",
        "tool",
        "conf.ini",
        "tasks.py",
        "pkg/more.py",
        "pkg/setup/__init__.py",
    ];
    let project = Project::new(STAGES, &files);
    let expected = [
        ("conf.ini", "list"),
        ("data.txt", "shell"),
        ("pipeline.yaml", ""),
        ("pkg/more.py", "file"),
        ("pkg/setup/__init__.py", "file"),
        ("run.sh", "shell"),
        ("tasks.py", "python"),
        ("tool", "list"),
    ];
    let expected = expected.map(|(file, stage)| {
        (file.to_owned(), Some(stage.to_owned()).filter(|stage| !stage.is_empty()).into_iter().collect())
    });
    assert_eq!(project.watched(), BTreeMap::from(expected));
}

#[test]
fn whatever_way_an_editor_saves_is_one_change() {
    let project = Project::new(STAGES, &["run.sh"]);
    let watcher = project.watch();
    // Truncate and write.
    project.save("run.sh", "one");
    let changed = next(&watcher);
    assert_eq!(changed.stages, BTreeMap::from([("shell".to_owned(), "run.sh".to_owned())]));
    assert!(!changed.is_document);
    // Another file in its place.
    project.save("run.sh.tmp", "two");
    fs::rename(project.path("run.sh.tmp"), project.path("run.sh")).unwrap();
    assert_eq!(next(&watcher).files, ["run.sh"]);
    // The old one moved away first, with a moment in between in which there is none.
    fs::rename(project.path("run.sh"), project.path("run.sh~")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    project.save("run.sh", "three");
    assert_eq!(next(&watcher).files, ["run.sh"]);
    project.save("pipeline.yaml", &STAGES.replace("conf", "other"));
    let changed = next(&watcher);
    assert!(changed.is_document && changed.stages.is_empty());
}

#[test]
fn a_file_that_was_saved_without_a_change_or_only_read_has_not_changed() {
    let project = Project::new(STAGES, &["run.sh", "data.txt"]);
    let watcher = project.watch();
    for _ in 0..10 {
        project.save("run.sh", "before");
        fs::read(project.path("run.sh")).unwrap();
        // Nobody's file, in a folder that is watched, and one that a stage writes.
        project.save("notes.txt", "new");
        project.save("out.txt", "new");
        std::thread::sleep(Duration::from_millis(20));
    }
    only(&watcher, &project, "data.txt");
}

#[test]
fn many_files_at_once_are_one_change_with_all_of_them() {
    let project = Project::new("stages: {all: {command: cat, watch: ['*.txt']}}", &[]);
    for number in 0..1000 {
        project.save(&format!("{number}.txt"), "before");
    }
    let watcher = project.watch();
    for number in 0..1000 {
        project.save(&format!("{number}.txt"), "after");
    }
    let mut changed = next(&watcher);
    // A machine that is so busy that this takes longer than a moment may see it as two or three.
    let mut tellings = 1;
    while changed.files.len() < 1000 {
        changed.files.extend(next(&watcher).files);
        tellings += 1;
    }
    changed.files.sort();
    changed.files.dedup();
    assert!(changed.files.len() == 1000 && tellings <= 10, "{tellings}");
}

#[test]
fn globs_see_new_files_and_folders_and_respect_gitignore() {
    let project = Project::new(STAGES, &["templates/page.html", "templates/deep/er/page.html"]);
    project.save(".gitignore", "cache\n");
    let watcher = project.watch();
    project.save("templates/cache/page.html", "new");
    project.save("templates/style.css", "new");
    project.save("templates/made.html", "by the stage");
    only(&watcher, &project, "templates/deep/er/page.html");
    only(&watcher, &project, "templates/new.html");
    fs::create_dir_all(project.path("templates/later/on")).unwrap();
    only(&watcher, &project, "templates/later/on/page.html");
    only(&watcher, &project, "templates/later/on/other.html");
    fs::remove_file(project.path("templates/new.html")).unwrap();
    assert_eq!(next(&watcher).files, ["templates/new.html"]);
}

#[test]
fn a_stage_that_writes_what_it_watches_is_cut_off_by_name() {
    let project = Project::new(STAGES, &["templates/loop.html", "templates/other.html"]);
    let watcher = project.watch();
    let mut changes = 0;
    let cut = loop {
        project.save("templates/loop.html", &format!("{changes}"));
        match watcher.told().recv_timeout(PATIENCE).unwrap() {
            Told::Changed(changed) => assert_eq!(changed.files, ["templates/loop.html"]),
            other => break other,
        }
        changes += 1;
        assert!(changes < 100);
    };
    assert_eq!(cut, Told::Cut { stage: "globs".to_owned(), file: "templates/loop.html".to_owned() });
    project.save("templates/loop.html", "once more");
    only(&watcher, &project, "templates/other.html");
}

#[test]
fn a_file_that_has_gone_is_a_change_and_so_is_one_that_has_come() {
    let project = Project::new(STAGES, &["run.sh"]);
    let watcher = project.watch();
    fs::remove_file(project.path("run.sh")).unwrap();
    assert_eq!(next(&watcher).files, ["run.sh"]);
    // A module that was not there.
    project.save("tasks.py", "new");
    assert_eq!(next(&watcher).stages.keys().collect::<Vec<_>>(), ["python"]);
}

#[test]
fn whoever_is_asked_to_looks_twice_a_second_and_sees_the_same() {
    let project = Project::new(STAGES, &["run.sh", "templates/page.html"]);
    let watcher = Watcher::start_polling(project.set()).unwrap();
    let told = watcher.told().recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, Told::Polls { why: "that was asked for".to_owned() });
    // Saved without a change.
    project.save("run.sh", "before");
    only(&watcher, &project, "templates/page.html");
    only(&watcher, &project, "run.sh");
    only(&watcher, &project, "templates/new/page.html");
    // It goes on so with another set.
    let mut set = project.set();
    set.add("python", &project.path("extra.py"));
    watcher.update(set);
    only(&watcher, &project, "run.sh");
    only(&watcher, &project, "extra.py");
}

#[test]
fn a_set_that_replaces_another_loses_no_change() {
    let project = Project::new(STAGES, &["run.sh", "extra.py"]);
    let watcher = project.watch();
    for number in 0..20 {
        let mut set = project.set();
        set.add("python", &project.path("extra.py"));
        project.save("run.sh", &format!("{number}"));
        watcher.update(set);
        assert_eq!(next(&watcher).files, ["run.sh"]);
    }
    project.save("extra.py", "new");
    assert_eq!(next(&watcher).stages, BTreeMap::from([("python".to_owned(), "extra.py".to_owned())]));
}
