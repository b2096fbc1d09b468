//! `depends_on`.

use super::reader::Reader;
use super::words::STATES;
use crate::language::diagnostic::code;
use crate::language::tree::{Kind, Node};
use crate::model::{Dependency, DependencyState};

impl Reader<'_> {
    /// A list of stages, or a map from stages to states. Whether there are such stages is the graph's to say.
    pub(super) fn depends_on(self, what: &str, node: &Node) -> Option<Vec<Dependency>> {
        let node = self.resolve(node)?;
        match &node.kind {
            Kind::List(_) => {
                let names =
                    self.each(what, &node, |node| self.full_text("an element of `depends_on`", node))?;
                let state = DependencyState::Started;
                Some(names.into_iter().map(|stage| Dependency { stage, state }).collect())
            }
            Kind::Map(entries) => {
                let states: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        let what = format!("the state of `{}` in `depends_on`", entry.key);
                        let state = self.word(&what, &entry.value, &STATES)?;
                        Some(Dependency { stage: entry.key.clone(), state })
                    })
                    .collect();
                states.into_iter().collect()
            }
            Kind::Text(name) | Kind::Evaluated(name) => self.mistake(
                code::WRONG_TYPE,
                "`depends_on` must be a list of stages or a map from stages to states",
                node.span,
                "found text",
                format!("write `depends_on: [{name}]`"),
            ),
            _ => self.wrong_type(what, "a list of stages or a map from stages to states", &node),
        }
    }
}
