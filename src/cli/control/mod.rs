//! The commands about runs that go on, over their control sockets.

pub(super) mod logs;
pub(super) mod ps;
pub(super) mod reload;
pub(super) mod restart;
pub(super) mod scale;
pub(super) mod status;
pub(super) mod stop;
pub(super) mod tap;
pub(super) mod top;

use mpflow::control::{self, Client};
use mpflow::report::{RunInfo, StageSnapshot};

use super::error::CliError;

/// The run that a command is about, among its options.
#[derive(Debug, clap::Args)]
pub(super) struct RunOption {
    /// The run: the beginning of its id, or its pipeline's name; by default the only one
    #[arg(long, short, value_name = "RUN")]
    run: Option<String>,
}

impl RunOption {
    fn find(&self) -> Result<(Client, RunInfo), CliError> {
        control::find(self.run.as_deref()).map_err(|error| CliError::Find { error, by: Some("--run") })
    }
}

/// The run that a command is about, as its argument.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgument {
    /// The run: the beginning of its id, or its pipeline's name; by default the only one
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

impl RunArgument {
    fn find(&self) -> Result<(Client, RunInfo), CliError> {
        control::find(self.run.as_deref()).map_err(|error| CliError::Find { error, by: None })
    }
}

/// The stage, or that of the worker, of this name, where it is a source: what is started in it begins from the beginning.
/// To be asked before anything is, since a run may end right after.
fn source(client: &mut Client, what: &str) -> Option<StageSnapshot> {
    // A run that cannot say it will not do either what is asked next, and then it is said why.
    let status = client.status().ok()?;
    let name = what.split('/').next().unwrap_or(what);
    status.snapshot.stages.into_iter().find(|stage| stage.stage == name && stage.is_source)
}
