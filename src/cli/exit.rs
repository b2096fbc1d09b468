//! How `mpflow` ends.

use std::process::ExitCode;

/// How `mpflow` ends, before it is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All went well.
    Success,
    /// A stage failed, or something that was asked for could not be done.
    Failed,
    /// The command line or the pipeline is wrong; nothing was started.
    Wrong,
    /// A signal ended the run.
    Interrupted(Interrupt),
    /// What was waited for did not come in time; as `timeout` ends.
    TimedOut,
    /// A command that was run ended so, and so does `mpflow`.
    Command(u8),
}

/// The signals that end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// SIGINT, as by Ctrl-C.
    Int,
    /// SIGTERM.
    Term,
    /// SIGHUP from a terminal that is gone.
    Hup,
}

impl End {
    /// The number for the shell; the one place that decides it.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(self.number())
    }

    fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Interrupted(Interrupt::Int) => 128 + 2,
            Self::Interrupted(Interrupt::Term) => 128 + 15,
            Self::Interrupted(Interrupt::Hup) => 128 + 1,
            Self::TimedOut => 124,
            Self::Command(code) => code,
        }
    }

    /// The same, unless all would have gone well but for something that was asked for and could not be done.
    #[must_use]
    pub(super) fn but_failed_if(self, is_failed: bool) -> Self {
        if is_failed && self == Self::Success { Self::Failed } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_the_code_that_the_manual_says() {
        let ends = [
            End::Success,
            End::Failed,
            End::Wrong,
            End::Interrupted(Interrupt::Int),
            End::Interrupted(Interrupt::Term),
            End::Interrupted(Interrupt::Hup),
            End::TimedOut,
            End::Command(7),
        ];
        assert_eq!(ends.map(End::number), [0, 1, 2, 130, 143, 129, 124, 7]);
    }

    #[test]
    fn a_report_that_could_not_be_written_fails_only_a_run_that_went_well() {
        assert_eq!(End::Success.but_failed_if(true), End::Failed);
        assert_eq!(End::Success.but_failed_if(false), End::Success);
        assert_eq!(End::Interrupted(Interrupt::Int).but_failed_if(true), End::Interrupted(Interrupt::Int));
    }
}
