//! What the place that text goes to can show.

use std::cmp::Ordering;
use std::fmt::Write as _;

/// What the place that text goes to can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns; lines are kept within them where that is possible.
    pub width: usize,
    /// Whether it is a terminal that shows colours.
    pub colours: bool,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
    /// Whether it obeys control characters, so that those of workers must be kept from it.
    pub is_terminal: bool,
}

/// A colour or weight of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Something failed.
    Red,
    /// Something to look at.
    Yellow,
    /// All went well.
    Green,
    /// What matters little.
    Dim,
    /// What matters most.
    Bold,
    /// One of the colours that tell names apart.
    Name(u8),
}

/// Foregrounds that tell names apart: neither red, yellow nor green, which mean something, nor black or white.
const NAMES: [&str; 6] = ["36", "35", "34", "96", "95", "94"];

impl Look {
    /// Text for a file or a test: 100 columns of UTF-8 without colours.
    pub const PLAIN: Self = Self { width: 100, colours: false, unicode: true, is_terminal: false };

    /// `text` in this colour, or as it is where there are none.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => "1;31",
            Colour::Yellow => "33",
            Colour::Green => "1;32",
            Colour::Dim => "2",
            Colour::Bold => "1",
            Colour::Name(number) => NAMES[usize::from(number) % NAMES.len()],
        };
        let mut painted = String::with_capacity(text.len() + 12);
        // Writing to a string cannot fail.
        let _ = write!(painted, "\x1b[{code}m{text}\x1b[0m");
        painted
    }

    /// The colour that a stage or worker of this name always has; all workers of a stage share theirs.
    pub fn name_colour(name: &str) -> Colour {
        let stage = name.split('/').next().unwrap_or(name);
        // FNV-1a: any spread will do, but it must be the same in every run.
        let hash = stage.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Colour::Name((hash % NAMES.len() as u64) as u8)
    }

    /// Cuts `text` to at most `width` characters, the last one an ellipsis where it was cut.
    pub fn cut(self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let ellipsis = if self.unicode { "…" } else { "~" };
        let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
        cut.push_str(ellipsis);
        cut
    }

    /// Cuts a line that may be painted: its colours take no room, and what comes after the line has its own.
    pub fn cut_line(self, line: &str, width: usize) -> String {
        let (mut seen, mut is_colour) = (0, false);
        let mut cut = String::with_capacity(line.len());
        let ellipsis = if self.unicode { '…' } else { '~' };
        for char in line.chars() {
            is_colour |= char == '\x1b';
            if is_colour {
                cut.push(char);
                is_colour = char != 'm';
                continue;
            }
            seen += 1;
            match seen.cmp(&width) {
                Ordering::Less => cut.push(char),
                Ordering::Equal => cut.push(ellipsis),
                Ordering::Greater => {}
            }
        }
        if seen <= width { line.to_owned() } else { cut }
    }

    /// Cuts a name to at most `width` characters, an ellipsis in its middle where it was cut: names that begin alike end
    /// differently, as those of numbered stages do.
    pub fn cut_name(self, name: &str, width: usize) -> String {
        let length = name.chars().count();
        if length <= width || width < 3 {
            return self.cut(name, width);
        }
        let end = (width - 1) / 2;
        let tail: String = name.chars().skip(length - end).collect();
        self.cut(name, width - end) + &tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_of_a_stage_share_a_colour() {
        assert_eq!(Look::name_colour("square/0"), Look::name_colour("square/11"));
        assert_eq!(Look::name_colour("square"), Look::name_colour("square/3"));
    }

    #[test]
    fn without_colours_text_is_unchanged() {
        assert_eq!(Look::PLAIN.paint(Colour::Red, "x"), "x");
    }

    #[test]
    fn what_is_cut_says_so_within_the_width() {
        assert_eq!(Look::PLAIN.cut("abcdef", 4), "abc…");
        assert_eq!(Look { unicode: false, ..Look::PLAIN }.cut("abcdef", 4), "abc~");
        assert_eq!(Look::PLAIN.cut("abcd", 4), "abcd");
    }

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it_and_keeps_its_colours() {
        let look = Look { colours: true, ..Look::PLAIN };
        let line = format!("{} and more", look.paint(Colour::Red, "abc"));
        assert_eq!(look.cut_line(&line, 12), line);
        assert_eq!(look.cut_line(&line, 6), format!("{} a…", look.paint(Colour::Red, "abc")));
        assert_eq!(look.cut_line(&line, 2), look.paint(Colour::Red, "a…"));
    }

    #[test]
    fn a_name_that_is_cut_keeps_its_end() {
        assert_eq!(Look::PLAIN.cut_name("resize-large-01", 9), "resi…e-01");
        assert_eq!(Look { unicode: false, ..Look::PLAIN }.cut_name("resize-large-01", 8), "resi~-01");
        assert_eq!(Look::PLAIN.cut_name("resize", 6), "resize");
        for width in 0..6 {
            assert_eq!(Look::PLAIN.cut_name("resize", width).chars().count(), width.max(1));
        }
    }
}
