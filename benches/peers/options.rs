//! The command line of the benchmark.

use std::fmt::Write as _;
use std::path::PathBuf;

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) help: bool,
    /// How the engine's cost grows, instead of the table of rows.
    pub(crate) growth: bool,
    /// Smaller inputs and fewer rounds: to see whether all of it works.
    pub(crate) quick: bool,
    pub(crate) json: bool,
    /// The folder for the pictures of `growth`.
    pub(crate) plots: Option<PathBuf>,
    rounds: Option<usize>,
    /// Only rows whose names hold one of these.
    filters: Vec<String>,
}

impl Options {
    /// # Errors
    ///
    /// What is wrong, and how to see what there is.
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-h" | "--help" => options.help = true,
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--plots" => {
                    options.plots =
                        Some(arguments.next().ok_or_else(|| wrong("`--plots` wants a folder"))?.into());
                }
                "--rounds" => {
                    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                    let rounds = rounds.filter(|&rounds| rounds > 0);
                    options.rounds =
                        Some(rounds.ok_or_else(|| wrong("`--rounds` wants a number from 1 on"))?);
                }
                // Cargo says so to every benchmark.
                "--bench" => {}
                "growth" => options.growth = true,
                option if option.starts_with('-') => {
                    return Err(wrong(&format!("there is no option `{option}`")));
                }
                filter => options.filters.push(filter.to_owned()),
            }
        }
        match (&options.plots, options.growth) {
            (Some(_), false) => {
                Err(wrong("`--plots` draws what `growth` measures: say `growth --plots FOLDER`"))
            }
            _ => Ok(options),
        }
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter))
    }

    /// An error where a word is in no name of what there is.
    ///
    /// # Errors
    ///
    /// The word, and how to see the names.
    pub(crate) fn check_filters(&self, names: &[&str]) -> Result<(), String> {
        match self.filters.iter().find(|filter| !names.iter().any(|name| name.contains(filter.as_str()))) {
            Some(filter) => Err(wrong(&format!("no row's name holds `{filter}`"))),
            None => Ok(()),
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 })
    }

    /// Runs at each point of a curve.
    pub(crate) fn growth_rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }
}

fn wrong(what: &str) -> String {
    format!("{what}; `cargo bench -- --help` shows what there is")
}

/// The answer to `--help`.
pub(crate) fn help(rows: &[&str], growth: &[&str]) -> String {
    let mut out = HELP.to_owned();
    for (head, names) in [("Rows:", rows), ("\nGrowth:", growth)] {
        let _ = writeln!(out, "{head}");
        names.iter().for_each(|name| out.push_str(&format!("  {name}\n")));
    }
    out
}

const HELP: &str = "\
The engine beside its peers, and how its cost grows with the work.

usage: cargo bench -- [OPTIONS] [WORD…]           the table of rows
       cargo bench -- growth [OPTIONS] [WORD…]    curves over records, sizes, pools, stages, edges

Only what has one of the words in its name is run; without words, all of it. A word of several is quoted: 'memory, 2'.

  --quick           smaller inputs and fewer rounds: to see whether all of it works
  --rounds N        rounds of each row (7; quick: 3), or runs at each point of a curve (3; quick: 1)
  --json            one JSON document instead of the table
  --plots FOLDER    with `growth`: also draws FOLDER/growth-*.svg
  -h, --help        this

It needs 3 GB in /dev/shm, or where temporary files are. `benches/install-peers` installs the peers; rows and columns
without theirs are left out and named. Exit: 0 all ran, 1 a run of the engine was wrong, 2 a wrong command line.

";
