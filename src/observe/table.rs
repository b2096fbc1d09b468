//! Columns that line up and fit.

use super::{Colour, Look};

/// Between two columns.
const GAP: usize = 2;

/// The narrowest that the first column is cut to.
const NARROWEST: usize = 8;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    is_number: bool,
    /// Where the table is too wide, columns leave from the greatest number on; those of 0 stay.
    expendable: u8,
    /// Never narrower than this, so that a table that is drawn again and again stands still.
    least: usize,
}

impl Column {
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, is_number: false, expendable: 0, least: 0 }
    }

    pub(super) const fn number(title: &'static str) -> Self {
        Self { is_number: true, ..Self::text(title) }
    }

    pub(super) const fn expendable(self, order: u8) -> Self {
        Self { expendable: order, ..self }
    }

    pub(super) const fn at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }
}

/// One cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None }
    }

    pub(super) fn colour(self, colour: Colour) -> Self {
        Self { colour: Some(colour), ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows under titled columns; the first column names the row.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row that has a cell for every column.
    pub(super) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for every column");
        self.rows.push(cells);
    }

    /// The lines, the titles first, without ends of line.
    pub(super) fn lines(&self, look: Look) -> Vec<String> {
        let mut widths: Vec<usize> =
            (0..self.columns.len()).map(|position| self.width_of(position)).collect();
        let shown = self.fitting(&mut widths, look.width);
        let titles: Vec<Cell> =
            self.columns.iter().map(|column| Cell::new(column.title).colour(Colour::Dim)).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.line(row, &shown, &widths, look)).collect()
    }

    fn width_of(&self, position: usize) -> usize {
        let column = &self.columns[position];
        let widest = self.rows.iter().map(|row| row[position].width()).max().unwrap_or(0);
        widest.max(column.title.chars().count()).max(column.least)
    }

    /// The positions of the columns that fit in `width`. If even those that stay do not, the first is made narrower; if
    /// that is not enough, the last ones leave: half a number is another number.
    fn fitting(&self, widths: &mut [usize], width: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        loop {
            let needed: usize =
                shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP * shown.len().saturating_sub(1);
            if needed <= width {
                return shown;
            }
            let next = shown.iter().copied().max_by_key(|&at| self.columns[at].expendable);
            match next {
                Some(at) if self.columns[at].expendable > 0 => shown.retain(|&other| other != at),
                _ => {
                    let Some(first) = widths.first_mut() else { return shown };
                    let over = needed - width;
                    let spare = first.saturating_sub(NARROWEST);
                    if over <= spare || shown.len() == 1 {
                        *first -= over.min(spare);
                        return shown;
                    }
                    shown.pop();
                }
            }
        }
    }

    fn line(&self, row: &[Cell], shown: &[usize], widths: &[usize], look: Look) -> String {
        let mut line = String::new();
        for (number, &at) in shown.iter().enumerate() {
            let cell = &row[at];
            // Only the first column is ever narrower than what is in it.
            let text = look.cut_name(&cell.text, widths[at]);
            let padding = " ".repeat(widths[at] - text.chars().count());
            let text = match cell.colour {
                Some(colour) => look.paint(colour, &text),
                None => text,
            };
            if number > 0 {
                line.push_str("  ");
            }
            if self.columns[at].is_number {
                line.push_str(&padding);
                line.push_str(&text);
            } else {
                line.push_str(&text);
                line.push_str(&padding);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::text("stage"),
            Column::number("in"),
            Column::number("memory").expendable(2),
            Column::text("exits").expendable(1),
        ]);
        table.row(["a", "1,000", "1.00 MiB", "0"].map(Cell::new));
        table.row(["a-rather-long-name", "7", "12.0 MiB", "0 x4"].map(Cell::new));
        table
    }

    #[test]
    fn columns_line_up() {
        insta::assert_snapshot!(table().lines(Look::PLAIN).join("\n"), @r"
        stage                  in    memory  exits
        a                   1,000  1.00 MiB  0
        a-rather-long-name      7  12.0 MiB  0 x4
        ");
    }

    #[test]
    fn where_there_is_little_room_the_least_important_leave_and_names_are_cut() {
        let narrow = |width| table().lines(Look { width, ..Look::PLAIN }).join("\n");
        insta::assert_snapshot!(narrow(35), @r"
        stage                  in  exits
        a                   1,000  0
        a-rather-long-name      7  0 x4
        ");
        insta::assert_snapshot!(narrow(20), @r"
        stage             in
        a              1,000
        a-rath…g-name      7
        ");
    }

    #[test]
    fn a_column_that_does_not_fit_is_left_out_whole_from_the_right() {
        let mut table = Table::new([
            Column::text("stage").at_least(8),
            Column::number("in"),
            Column::number("memory"),
            Column::text(""),
        ]);
        table.row(["numbers-of-all", "473", "3.17 MiB", "full"].map(Cell::new));
        let narrow = |width| table.lines(Look { width, ..Look::PLAIN }).join("\n");
        insta::assert_snapshot!(narrow(30), @r"
        stage       in    memory
        numb…-all  473  3.17 MiB  full
        ");
        insta::assert_snapshot!(narrow(26), @r"
        stage         in    memory
        numbe…f-all  473  3.17 MiB
        ");
        insta::assert_snapshot!(narrow(20), @r"
        stage            in
        numbers-of-all  473
        ");
        insta::assert_snapshot!(narrow(10), @r"
        stage
        numbe…-all
        ");
    }

    #[test]
    fn colours_do_not_disturb_the_columns() {
        let mut table = Table::new([Column::text("stage"), Column::number("n")]);
        table.row([Cell::new("ab").colour(Colour::Red), Cell::new("1")]);
        let lines = table.lines(Look { colours: true, ..Look::PLAIN });
        assert_eq!(lines[1], "\x1b[1;31mab\x1b[0m     1");
    }
}
