//! The command line of the benchmark.

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Smaller inputs and fewer rounds: to see whether all of it works.
    pub(crate) quick: bool,
    pub(crate) json: bool,
    rounds: Option<usize>,
    /// Only rows whose names hold one of these.
    filters: Vec<String>,
}

impl Options {
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--rounds" => {
                    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = Some(rounds.filter(|&rounds| rounds > 0).ok_or(USAGE)?);
                }
                // Cargo says so to every benchmark.
                "--bench" => {}
                option if option.starts_with('-') => return Err(USAGE.to_owned()),
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter))
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 })
    }
}

const USAGE: &str = "usage: cargo bench -- [--quick] [--json] [--rounds N] [ROW…]";
