//! Where everything stands that other layers can speak of.

use std::collections::HashMap;

use crate::language::Span;
use crate::model::Place;

/// The span of every [`Place`] of a document.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    spans: HashMap<Place, Span>,
}

impl Places {
    pub(super) fn put(&mut self, place: Place, span: Span) {
        self.spans.insert(place, span);
    }

    /// Whether the document says this place itself.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.spans.contains_key(place)
    }

    /// The span of a place; where the document does not say such a key, that of what would hold it.
    pub(super) fn find(&self, place: &Place) -> Option<Span> {
        if let Some(span) = self.spans.get(place) {
            return Some(*span);
        }
        match place {
            Place::StageKey(stage, _) => self.find(&Place::Stage(stage.clone())),
            Place::EdgeKey(number, _) | Place::EdgeFrom(number) | Place::EdgeTo(number) => {
                self.find(&Place::Edge(*number))
            }
            Place::Edge(_) => self.find(&Place::Top("edges")),
            Place::Stage(_) => self.find(&Place::Top("stages")),
            Place::Top(_) => None,
        }
    }
}
