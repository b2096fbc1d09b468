//! The name that was probably meant.

/// The known name nearest to a wrong one, if one is near enough to be meant: at most one edit for a short name,
/// one in three characters for a longer one. Of equally near names the first; a single letter is near to nothing.
pub(crate) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = wanted.chars().count();
    let allowed = (length / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(edits, _)| (1..=allowed).contains(edits) && *edits < length)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one text into the other (Damerau's
/// distance, restricted so that no part is edited twice).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // Three rows of the table are enough: a swap looks two rows back.
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_a_typist_makes_them() {
        assert_eq!(distance("decode", "decode"), 0);
        assert_eq!(distance("decodr", "decode"), 1);
        assert_eq!(distance("dceode", "decode"), 1);
        assert_eq!(distance("decod", "decode"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("größe", "grosse"), 3);
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_strange_one_is_not() {
        let known = ["command", "python", "pool", "cwd"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("poll", known), Some("pool"));
        assert_eq!(nearest("workers", known), None);
        assert_eq!(nearest("x", ["a", "b"]), None);
        assert_eq!(nearest("pool", known), None, "a right name needs no suggestion");
        assert_eq!(nearest("pool", []), None);
    }
}
