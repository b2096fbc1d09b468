//! `retry`, `restart`, `stop`, `success_exit`.

use super::keys;
use super::reader::Reader;
use super::words::{POLICIES, SCOPES, listed};
use crate::language::diagnostic::{Finding, code};
use crate::language::tree::{Kind, Node};
use crate::model::{Backoff, Exit, Restart, RestartPolicy, Retry, Signal, StopPolicy, nearest};

impl Reader<'_> {
    pub(super) fn retry(self, what: &str, node: &Node) -> Option<Retry> {
        let node = self.resolve(node)?;
        let unset = Retry::default();
        match node.kind {
            Kind::Integer(..) => {
                return self.count(what, &node).map(|attempts| Retry { attempts, ..unset });
            }
            Kind::Map(_) => {}
            _ => {
                let expected = "an integer of at least 1 or `{attempts, delay, factor, max_delay}`";
                return self.wrong_type(what, expected, &node);
            }
        }
        let fields = self.fields(what, &node, keys::RETRY)?;
        let attempts = fields.read("attempts", |_, node| self.count("`retry.attempts`", node));
        let delay = fields.read("delay", |_, node| self.duration("`retry.delay`", node));
        let factor = fields.read("factor", |_, node| self.number("`retry.factor`", node, 1.0..=f64::MAX));
        let max_delay = fields.read("max_delay", |_, node| self.duration("`retry.max_delay`", node));
        Some(Retry {
            attempts: attempts.unwrap_or(unset.attempts),
            delay: delay.unwrap_or(unset.delay),
            factor: factor.unwrap_or(unset.factor),
            max_delay: max_delay.unwrap_or(unset.max_delay),
        })
    }

    pub(super) fn restart(self, what: &str, node: &Node) -> Option<Restart> {
        let node = self.resolve(node)?;
        let unset = Restart::default();
        match node.kind {
            Kind::Map(_) => {}
            Kind::Text(_) | Kind::Evaluated(_) => {
                return self.word(what, &node, &POLICIES).map(|policy| Restart { policy, ..unset });
            }
            _ => return self.wrong_type(what, "`never`, `on-failure`, `always` or a map", &node),
        }
        let fields = self.fields(what, &node, keys::RESTART)?;
        let policy = fields.read("policy", |_, node| self.word("`restart.policy`", node, &POLICIES));
        let max = fields.read("max", |_, node| self.count("`restart.max`", node));
        let within = fields.read("within", |_, node| self.positive_duration("`restart.within`", node));
        let backoff = fields.read("backoff", |_, node| self.backoff(node));
        let scope = fields.read("scope", |_, node| self.word("`restart.scope`", node, &SCOPES));
        if policy == Some(RestartPolicy::Never)
            && let Some(other) = fields.entries.iter().find(|entry| entry.key != "policy")
        {
            return self.mistake(
                code::KEY_WITHOUT_EFFECT,
                format!("`restart.{}` has no effect where `policy` is `never`", other.key),
                other.key_span,
                "nothing is restarted",
                "write `restart: never`, or another `policy`",
            );
        }
        Some(Restart {
            // Whoever describes restarts wants some.
            policy: policy.unwrap_or(RestartPolicy::OnFailure),
            max: max.unwrap_or(unset.max),
            within: within.unwrap_or(unset.within),
            backoff: backoff.unwrap_or(unset.backoff),
            scope: scope.unwrap_or(unset.scope),
        })
    }

    fn backoff(self, node: &Node) -> Option<Backoff> {
        let fields = self.fields("`restart.backoff`", node, keys::BACKOFF)?;
        let unset = Backoff::default();
        let initial = fields.read("initial", |_, node| self.duration("`backoff.initial`", node));
        let factor = fields.read("factor", |_, node| self.number("`backoff.factor`", node, 1.0..=f64::MAX));
        let max = fields.read("max", |_, node| self.duration("`backoff.max`", node));
        let jitter = fields.read("jitter", |_, node| self.number("`backoff.jitter`", node, 0.0..=1.0));
        Some(Backoff {
            initial: initial.unwrap_or(unset.initial),
            factor: factor.unwrap_or(unset.factor),
            max: max.unwrap_or(unset.max),
            jitter: jitter.unwrap_or(unset.jitter),
        })
    }

    /// A stop policy; what it does not say is as in `unset`.
    pub(super) fn stop(self, what: &str, node: &Node, unset: StopPolicy) -> Option<StopPolicy> {
        let fields = self.fields(what, node, keys::STOP)?;
        let signal = fields.read("signal", |_, node| self.signal("`stop.signal`", node));
        let grace = fields.read("grace", |_, node| self.duration("`stop.grace`", node));
        Some(StopPolicy { signal: signal.unwrap_or(unset.signal), grace: grace.unwrap_or(unset.grace) })
    }

    fn signal(self, what: &str, node: &Node) -> Option<Signal> {
        let node = self.resolve(node)?;
        let (Kind::Text(text) | Kind::Evaluated(text)) = &node.kind else {
            return self.wrong_type(what, "the name of a signal like `SIGTERM`", &node);
        };
        if let Ok(signal) = text.parse() {
            return Some(signal);
        }
        self.report(
            Finding::error(code::INVALID_VALUE, format!("{what} is not the name of a signal"))
                .at(node.span, "no signal has this name")
                .help(near_signal(text)),
        );
        None
    }

    pub(super) fn success_exit(self, what: &str, node: &Node) -> Option<Vec<Exit>> {
        let exits = self.each(what, node, |node| self.exit(node))?;
        if !exits.is_empty() {
            return Some(exits);
        }
        let message = format!("{what} must not be empty");
        self.mistake(
            code::INVALID_VALUE,
            message,
            node.span,
            "no exit would ever be a success",
            "write `[0]`",
        )
    }

    /// A code, or a signal by its name or as Python writes it.
    fn exit(self, node: &Node) -> Option<Exit> {
        let what = "an element of `success_exit`";
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::Integer(..) => {
                let code = self.integer(what, &node, -64..=255)?;
                let code = i32::try_from(code).expect("the range was checked");
                Some(if code < 0 { Exit::Signal(Signal(-code)) } else { Exit::Code(code) })
            }
            Kind::Text(_) | Kind::Evaluated(_) => self.signal(what, &node).map(Exit::Signal),
            _ => self.wrong_type(what, "an integer or the name of a signal", &node),
        }
    }
}

fn near_signal(text: &str) -> String {
    let names: Vec<String> = Signal::names().collect();
    let wanted = text.to_ascii_uppercase();
    let wanted = if wanted.starts_with("SIG") { wanted } else { format!("SIG{wanted}") };
    let exact = names.iter().find(|name| **name == wanted).map(String::as_str);
    match exact.or_else(|| nearest(&wanted, names.iter().map(String::as_str))) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "signals are {} and the others of signal(7)",
            listed(["SIGTERM", "SIGINT", "SIGHUP"].into_iter())
        ),
    }
}
