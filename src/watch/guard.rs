//! Stages that write what they watch: each change would start them again, and they would make the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A change so soon after the reload that the one before it caused may be the stage's own.
const SOON: Duration = Duration::from_secs(2);

/// So many such changes in a row are.
const IN_A_ROW: u32 = 5;

/// Remembers which file's changes followed from which stage's reloads.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// By stage and file: changes in a row, and when the last was told.
    rows: BTreeMap<(String, PathBuf), (u32, Instant)>,
    cut: BTreeSet<(String, PathBuf)>,
}

/// What is to be done with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Pass,
    /// It is one too many: from now on changes of this file do not concern this stage.
    Cut,
    /// It was cut off before.
    Ignored,
}

impl Guard {
    /// A file that this stage watches by a glob has changed.
    pub(super) fn judge(&mut self, stage: &str, file: &Path, now: Instant) -> Verdict {
        let key = (stage.to_owned(), file.to_owned());
        if self.cut.contains(&key) {
            return Verdict::Ignored;
        }
        let (row, last) = self.rows.entry(key.clone()).or_insert((0, now));
        *row = if now.saturating_duration_since(*last) <= SOON { *row + 1 } else { 1 };
        *last = now;
        if *row <= IN_A_ROW {
            return Verdict::Pass;
        }
        self.rows.remove(&key);
        self.cut.insert(key);
        Verdict::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_writes_what_it_watches_is_cut_off_and_no_other() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        let file = Path::new("/p/cache.txt");
        for step in 0..IN_A_ROW {
            assert_eq!(guard.judge("writer", file, start + step * SOON / 2), Verdict::Pass);
        }
        assert_eq!(guard.judge("writer", file, start + IN_A_ROW * SOON / 2), Verdict::Cut);
        assert_eq!(guard.judge("writer", file, start + 100 * SOON), Verdict::Ignored);
        assert_eq!(guard.judge("reader", file, start + 100 * SOON), Verdict::Pass);
        assert_eq!(guard.judge("writer", Path::new("/p/other"), start), Verdict::Pass);
    }

    #[test]
    fn somebody_who_saves_now_and_then_is_no_loop() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        for step in 0..100 {
            let at = start + step * 2 * SOON;
            assert_eq!(guard.judge("stage", Path::new("/p/template"), at), Verdict::Pass);
        }
    }
}
