//! Values that may differ from worker to worker, of pools that may differ in width.

use crate::model::PerWorker;

/// Whether each worker that is in both pools has the same value. A wider pool has more values, which changes nothing
/// for those that it had.
pub(super) fn alike<T: PartialEq>(old: &PerWorker<T>, new: &PerWorker<T>) -> bool {
    match (old, new) {
        (PerWorker::ByRank(old), PerWorker::ByRank(new)) => old.iter().zip(new).all(|(old, new)| old == new),
        (PerWorker::Same(value), other) | (other, PerWorker::Same(value)) => {
            other.all().iter().all(|other| other == value)
        }
    }
}

pub(super) fn alike_optional<T: PartialEq>(old: Option<&PerWorker<T>>, new: Option<&PerWorker<T>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => alike(old, new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// Whether workers see the same variables: of a name that comes twice the last counts, and the order does not.
pub(super) fn alike_environment(
    old: &[(String, PerWorker<String>)],
    new: &[(String, PerWorker<String>)],
) -> bool {
    let last =
        |all: &[(String, PerWorker<String>)], name: &str| all.iter().rposition(|(other, _)| other == name);
    let is_in = |name: &str, value: &PerWorker<String>, others: &[(String, PerWorker<String>)]| {
        last(others, name).is_some_and(|at| alike(value, &others[at].1))
    };
    let is_within = |these: &[(String, PerWorker<String>)], others: &[(String, PerWorker<String>)]| {
        these
            .iter()
            .enumerate()
            .all(|(at, (name, value))| last(these, name) != Some(at) || is_in(name, value, others))
    };
    is_within(old, new) && is_within(new, old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_rank(values: &[&str]) -> PerWorker<String> {
        PerWorker::ByRank(values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn a_pool_that_only_has_more_workers_has_the_same_values() {
        assert!(alike(&by_rank(&["0", "1"]), &by_rank(&["0", "1", "2"])));
        assert!(!alike(&by_rank(&["0", "1"]), &by_rank(&["1", "0"])));
        assert!(alike(&PerWorker::Same("x".to_owned()), &by_rank(&["x", "x"])));
        assert!(!alike(&by_rank(&["x", "y"]), &PerWorker::Same("x".to_owned())));
    }

    #[test]
    fn of_an_environment_the_last_value_of_each_name_counts() {
        let entry = |name: &str, value: &str| (name.to_owned(), PerWorker::Same(value.to_owned()));
        let one = [entry("A", "1"), entry("B", "2")];
        assert!(alike_environment(&one, &[entry("B", "2"), entry("A", "0"), entry("A", "1")]));
        assert!(!alike_environment(&one, &[entry("B", "2")]));
        assert!(!alike_environment(&[entry("A", "1")], &one));
        assert!(!alike_environment(&one, &[entry("A", "2"), entry("B", "2")]));
    }
}
