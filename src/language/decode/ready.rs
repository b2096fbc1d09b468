//! `ready`.

use std::time::Duration;

use super::keys;
use super::reader::Reader;
use crate::language::diagnostic::code;
use crate::language::tree::Node;
use crate::model::{Probe, ProbeKind};

impl Reader<'_> {
    pub(super) fn ready(self, what: &str, node: &Node) -> Option<Probe> {
        let fields = self.fields(what, node, keys::READY)?;
        let second = Duration::from_secs(1);
        let interval = fields.read("interval", |_, node| self.positive_duration("`ready.interval`", node));
        let timeout = fields.read("timeout", |_, node| self.positive_duration("`ready.timeout`", node));
        let failures = fields.read("failures", |_, node| self.count("`ready.failures`", node));
        let entry = fields.one_of(self, what, node.span, keys::PROBES, code::CONFLICTING_KEYS)?;
        let kind = match entry.key.as_str() {
            "tcp" => self.tcp(&entry.value)?,
            "http" => self.http(&entry.value)?,
            "command" => ProbeKind::Command(self.command("`ready.command`", &entry.value)?),
            "log" => ProbeKind::Log(self.full_text("`ready.log`", &entry.value)?),
            _ => self.notify(&entry.value)?,
        };
        Some(Probe {
            kind,
            interval: interval.unwrap_or(second),
            timeout: timeout.unwrap_or(second),
            failures: failures.unwrap_or(3),
        })
    }

    fn tcp(self, node: &Node) -> Option<ProbeKind> {
        let text = self.full_text("`ready.tcp`", node)?;
        let (host, port) = text.rsplit_once(':').unwrap_or(("", ""));
        if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Some(ProbeKind::Tcp(text));
        }
        self.mistake(
            code::INVALID_VALUE,
            "`ready.tcp` must be `HOST:PORT`",
            node.span,
            "not a host and a port from 1 to 65535",
            "write `localhost:5432`",
        )
    }

    fn http(self, node: &Node) -> Option<ProbeKind> {
        let text = self.full_text("`ready.http`", node)?;
        if text.strip_prefix("http://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
            return Some(ProbeKind::Http(text));
        }
        let (label, help) = if text.starts_with("https://") {
            ("probes do not speak TLS", "probe with a command: `command: [curl, -fsS, \"https://…\"]`")
        } else {
            ("not a URL that begins with `http://`", "write `http://localhost:8080/health`")
        };
        self.mistake(code::INVALID_VALUE, "`ready.http` must be an `http://` URL", node.span, label, help)
    }

    fn notify(self, node: &Node) -> Option<ProbeKind> {
        if self.truth("`ready.notify`", node)? {
            return Some(ProbeKind::Notify);
        }
        let help = "write `notify: true`, or remove `ready`";
        self.mistake(
            code::INVALID_VALUE,
            "`ready.notify` can only be `true`",
            node.span,
            "this asks for nothing",
            help,
        )
    }
}
