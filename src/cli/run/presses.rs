//! What each signal that asks a run to end does, and what the next one would do.

use mpflow::Stop;

use crate::cli::exit::Interrupt;

/// The requests to end that have come so far.
///
/// A ladder: SIGINT climbs one step, from draining to terminating to killing; SIGTERM climbs to terminating, and no
/// further however often it comes, since whatever sends it may repeat itself (a service manager, a container's
/// runtime) and a user who presses Ctrl-C again does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Presses {
    /// The strongest request so far, and the signal that made it.
    strongest: Option<(Stop, Interrupt)>,
}

/// What one signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the run has not been told yet"]
pub(super) struct Press {
    /// What the run is to be told, where it is anything new.
    pub(super) stop: Option<Stop>,
    /// What is said to the user: what it does and what the next one would do.
    pub(super) message: &'static str,
}

impl Presses {
    /// Takes one more signal.
    pub(super) fn press(&mut self, interrupt: Interrupt) -> Press {
        let before = self.strongest.map(|(stop, _)| stop);
        let (stop, message) = match (before, interrupt) {
            (None, Interrupt::Int) => (Stop::Drain, DRAINS),
            (Some(Stop::Drain), Interrupt::Int) => (Stop::Terminate, TERMINATES),
            (Some(Stop::Terminate), Interrupt::Int) => (Stop::Kill, KILLS),
            (Some(Stop::Kill), Interrupt::Int) => return Press { stop: None, message: KILLED },
            (None | Some(Stop::Drain), Interrupt::Term) => (Stop::Terminate, TERMINATED),
            (None | Some(Stop::Drain), Interrupt::Hup) => (Stop::Terminate, HUNG_UP),
            (Some(Stop::Terminate | Stop::Kill), Interrupt::Term | Interrupt::Hup) => {
                return Press { stop: None, message: UNCHANGED };
            }
        };
        self.strongest = Some((stop, interrupt));
        Press { stop: Some(stop), message }
    }

    /// The run is being ended in this way: what is said where no signal has asked for it.
    pub(super) fn asked_otherwise(self, level: &str) -> Option<&'static str> {
        let (asked, message) = match level {
            "drain" => (Stop::Drain, "asked to stop by `mpflow stop`: finishing what is in flight"),
            "terminate" => (
                Stop::Terminate,
                "asked to stop by `mpflow stop --now`: every worker gets its stop signal and grace period",
            ),
            _ => (Stop::Kill, "asked to stop by `mpflow stop --kill`: all workers are killed"),
        };
        self.strongest.is_none_or(|(strongest, _)| strongest < asked).then_some(message)
    }

    /// The signal that ended the run, if one did: the one with the strongest request.
    pub(super) fn interrupt(self) -> Option<Interrupt> {
        self.strongest.map(|(_, interrupt)| interrupt)
    }
}

const DRAINS: &str =
    "interrupted: finishing what is in flight; Ctrl-C again to send every worker its stop signal";
const TERMINATES: &str =
    "interrupted again: every worker gets its stop signal and grace period; Ctrl-C again to kill all";
const KILLS: &str = "interrupted a third time: all workers are killed";
const KILLED: &str = "all workers have been killed already; nothing is stronger than that";
const TERMINATED: &str = "terminated: every worker gets its stop signal and grace period; \
    a further SIGTERM changes nothing, SIGINT (Ctrl-C) kills them all";
const HUNG_UP: &str = "the terminal is gone: every worker gets its stop signal and grace period";
const UNCHANGED: &str =
    "the run is ending already; a further SIGTERM changes nothing, SIGINT (Ctrl-C) kills all workers";

#[cfg(test)]
mod tests {
    use super::*;

    /// What the run is told by these signals, and what counts as having ended it.
    fn stops(signals: &[Interrupt]) -> (Vec<Option<Stop>>, Option<Interrupt>) {
        let mut presses = Presses::default();
        let stops = signals.iter().map(|&signal| presses.press(signal).stop).collect();
        (stops, presses.interrupt())
    }

    use Interrupt::{Int, Term};

    #[test]
    fn sigint_drains_then_terminates_then_kills() {
        let expected = vec![Some(Stop::Drain), Some(Stop::Terminate), Some(Stop::Kill), None];
        assert_eq!(stops(&[Int, Int, Int, Int]), (expected, Some(Int)));
    }

    #[test]
    fn a_further_sigterm_changes_nothing() {
        assert_eq!(stops(&[Term, Term, Term]), (vec![Some(Stop::Terminate), None, None], Some(Term)));
    }

    #[test]
    fn sigterm_is_stronger_than_the_first_sigint_and_as_strong_as_the_second() {
        assert_eq!(stops(&[Int, Term]), (vec![Some(Stop::Drain), Some(Stop::Terminate)], Some(Term)));
        let expected = vec![Some(Stop::Drain), Some(Stop::Terminate), None];
        assert_eq!(stops(&[Int, Int, Term]), (expected, Some(Int)));
    }

    #[test]
    fn sigint_after_sigterm_kills() {
        assert_eq!(stops(&[Term, Int]), (vec![Some(Stop::Terminate), Some(Stop::Kill)], Some(Int)));
    }

    #[test]
    fn without_a_signal_nothing_interrupted_the_run() {
        assert_eq!(stops(&[]), (vec![], None));
    }

    #[test]
    fn every_press_but_the_last_says_what_the_next_would_do() {
        let mut presses = Presses::default();
        assert!(presses.press(Int).message.contains("Ctrl-C again to send"));
        assert!(presses.press(Int).message.contains("Ctrl-C again to kill"));
        assert!(presses.press(Term).message.contains("changes nothing"));
        assert!(Presses::default().press(Term).message.contains("kills them all"));
    }

    #[test]
    fn what_somebody_else_has_asked_for_is_said_and_what_a_press_has_is_not_said_again() {
        let mut presses = Presses::default();
        assert!(presses.asked_otherwise("drain").unwrap().contains("`mpflow stop`"));
        let _ = presses.press(Int);
        assert_eq!(presses.asked_otherwise("drain"), None);
        assert!(presses.asked_otherwise("terminate").unwrap().contains("--now"));
        assert!(presses.asked_otherwise("kill").unwrap().contains("--kill"));
        let _ = presses.press(Term);
        assert_eq!(presses.asked_otherwise("terminate"), None);
    }
}
