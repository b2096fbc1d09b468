//! The nearest right name for a wrong one.

/// The candidate that a person most probably meant by `word`, if one is near enough to be worth saying.
///
/// Near means: at most one edit for every three characters, one at least. Of several equally near ones the first
/// wins, so the order of `candidates` decides.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normalised(word);
    let limit = (wanted.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = normalised(candidate);
        if candidate == word || other.is_empty() || wanted.len().abs_diff(other.len()) > limit {
            continue;
        }
        let distance = edits(&wanted, &other);
        if distance <= limit && distance < other.len() && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Case and the kind of dash are seldom what was meant to differ.
fn normalised(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (the
/// "optimal string alignment" distance).
fn edits(from: &[char], to: &[char]) -> usize {
    let width = to.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, &b) in to.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_edits() {
        let names = ["decode", "encode", "store"];
        assert_eq!(nearest("decodr", names), Some("decode"));
        assert_eq!(nearest("edcode", names), Some("decode"));
        assert_eq!(nearest("Store", names), Some("store"));
        assert_eq!(nearest("quarantine", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("start-method", ["start_method"]), Some("start_method"));
    }
}
