//! The thread that takes results.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde::de::DeserializeOwned;

use super::reply::{Reply, TaskError, number_of};
use super::waiting::Waiting;
use crate::engine::{Output, RecvError};
use crate::event::{Event, EventKind};
use crate::worker::Failure;

/// Between two looks at what the run tells besides results.
const LOOK: Duration = Duration::from_millis(50);

/// A run that gives no more results ends soon: its workers have their grace period.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// The thread that takes results.
pub(super) struct Dispatcher<Out> {
    output: Output<Reply<Out>>,
    events: Receiver<Event>,
    waiting: Arc<Waiting<Out>>,
    why: Option<String>,
}

impl<Out: DeserializeOwned> Dispatcher<Out> {
    pub(super) fn new(
        output: Output<Reply<Out>>,
        events: Receiver<Event>,
        waiting: Arc<Waiting<Out>>,
    ) -> Self {
        Self { output, events, waiting, why: None }
    }

    /// Until the run has ended.
    pub(super) fn run(mut self) {
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(Reply::Result(number, Ok(value))) => self.waiting.answer(number, Ok(value)),
                Ok(Reply::Result(number, Err(failure))) => {
                    let Failure { error, r#type: kind, .. } = failure;
                    self.waiting.answer(number, Err(TaskError::Failed { error, kind }));
                }
                Ok(Reply::Failed(record, error)) => {
                    let Some(number) = number_of(&record) else {
                        // Whose it is cannot be known, and nobody may wait for it for ever.
                        self.why = Some(error);
                        break;
                    };
                    self.waiting.answer(number, Err(TaskError::Killed(error)));
                }
                Err(RecvError::Timeout | RecvError::Empty) => self.look_at_events(),
                // A result that is not of this type: whose it is cannot be known.
                Err(RecvError::Code(error)) => {
                    let name = std::any::type_name::<Out>();
                    self.why =
                        Some(format!("a result is no `{name}`, as this pool's are: {}", error.reason()));
                    break;
                }
                Err(_) => break,
            }
        }
        // Why it has ended is told by the end of the run, which follows.
        while self.why.is_none()
            && let Ok(event) = self.events.recv_timeout(LAST_WORDS)
            && self.heard(event)
        {}
        let why = self.why.take().unwrap_or_else(|| "it was closed or terminated".to_owned());
        self.waiting.end(&why);
    }

    fn look_at_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.heard(event);
        }
    }

    /// `false`: the run has ended.
    fn heard(&mut self, event: Event) -> bool {
        match event.kind {
            EventKind::Log { line, .. } => eprintln!("{line}"),
            EventKind::StageFailed { reason, .. } => {
                self.why.get_or_insert(reason);
            }
            EventKind::RunEnded { .. } => return false,
            _ => {}
        }
        true
    }
}
