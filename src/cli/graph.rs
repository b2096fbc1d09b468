//! `mpflow graph`: draws a pipeline.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};
use mpflow::pipeline::{Charset, Drawing};

use super::error::CliError;
use super::exit::End;
use super::load::{self, Overrides, Source};
use super::{output, show, terminal};

/// Draw a pipeline: its stages, pools, queues, pipes and daemons
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mpflow graph pipeline.yaml
  mpflow graph pipeline.yaml --format svg -o pipeline.svg
  mpflow graph pipeline.yaml --format dot | dot -Tpng > pipeline.png")]
pub(super) struct Args {
    /// The pipeline; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Source,
    #[command(flatten)]
    overrides: Overrides,
    /// How it is drawn
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the drawing to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For the terminal
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown pages
    Mermaid,
    /// A picture
    Svg,
}

pub(super) fn execute(args: &Args) -> Result<End, CliError> {
    let Some(pipeline) = show::loaded(load::load(&args.file, &args.overrides)?) else {
        return Ok(End::Wrong);
    };
    let drawing = pipeline.draw(match args.format {
        Format::Text => Drawing::Text(charset()),
        Format::Dot => Drawing::Dot,
        Format::Mermaid => Drawing::Mermaid,
        Format::Svg => Drawing::Svg,
    });
    output::write("the drawing", &drawing, args.output.as_deref())?;
    Ok(End::Success)
}

fn charset() -> Charset {
    if terminal::is_utf8() { Charset::Unicode } else { Charset::Ascii }
}
