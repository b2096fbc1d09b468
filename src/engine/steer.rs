//! A run that is changed while it runs.

use std::collections::BTreeMap;

use crossbeam_channel::Receiver;

use super::Run;
use crate::change::{Reloaded, SteerError};
use crate::model::Body;
use crate::pipeline::Pipeline;
use crate::sdk;

impl Run {
    /// Gives a stage a pool of `width` workers. Returns when those that were added are ready, and those that are too
    /// many have been told to finish what they hold; nothing that waits or is held is lost.
    ///
    /// Those with the highest ranks leave: their input ends, and they may take their time; a worker of a source gets its
    /// stop signal. A pool that grew and shrank by itself does so no more.
    ///
    /// Workers that are joined to others one by one, by a pipe, `partition_by` or `to_each`, are all replaced, as by a reload.
    ///
    /// # Errors
    ///
    /// See [`SteerError`]. With [`SteerError::Missing`] the pool has its new width, and its restart policy has decided
    /// about the workers that ended; with any other the stage is as it was.
    pub fn scale(&self, stage: &str, width: usize) -> Result<(), SteerError> {
        self.handle.scale(stage, width)
    }

    /// Replaces all workers of a stage, or one worker (`square/2`), one after the other: the next is told to finish when
    /// the one before has a successor that is ready. So a pool is never short of more than one of its workers.
    /// Returns how many were replaced, when the last is ready; that is 0 for an `each` stage, whose processes are new for
    /// each record anyway.
    ///
    /// A worker is told by the end of its input, and answers what it holds; after its grace period it is ended by its
    /// stop signal, and what it held is done by others. A worker of a source gets its stop signal at once, and its
    /// successor begins from the beginning. The only worker of a pool, and those that pipes join to others, are replaced as
    /// by a reload: their successors are ready first.
    ///
    /// # Errors
    ///
    /// See [`SteerError`]. With [`SteerError::Missing`] the others have been replaced; with any other nothing was.
    pub fn restart(&self, what: &str) -> Result<usize, SteerError> {
        self.handle.restart(what)
    }

    /// Lets the run become another pipeline, and returns what has changed when that has taken effect: all of it, or
    /// nothing. `touched` names stages that are to be replaced though their text is the same, and says why: a file that
    /// they run has changed.
    ///
    /// Stages and edges are compared by their names ([`Pipeline::compare`]); what does not differ keeps its workers
    /// and its records. New workers are made ready, and only then are the old ones told to finish what they hold, up to
    /// their grace period. Until then nothing is different, and if one does not come up nothing will be.
    ///
    /// A reload that is asked for while another has not taken effect replaces that, and both calls return what
    /// becomes of the last.
    ///
    /// # Errors
    ///
    /// See [`SteerError`]: the run goes on as it was. What fails within a second after it has taken effect takes the
    /// reload back; that is told by [`crate::event::EventKind::ReloadFailed`].
    pub fn reload(
        &self,
        pipeline: &Pipeline,
        touched: BTreeMap<String, String>,
    ) -> Result<Reloaded, SteerError> {
        self.begin_reload(pipeline, touched)?.recv().unwrap_or(Err(SteerError::RunEnded))
    }

    /// The same, without waiting: what [`Run::reload`] would return comes by the receiver. It is disconnected without an
    /// answer when the run ends before.
    ///
    /// # Errors
    ///
    /// [`SteerError::Sdk`]: nothing was asked for.
    pub fn begin_reload(
        &self,
        pipeline: &Pipeline,
        touched: BTreeMap<String, String>,
    ) -> Result<Receiver<Result<Reloaded, SteerError>>, SteerError> {
        let plan = pipeline.plan().clone();
        if plan.stages.iter().any(|stage| matches!(stage.stage.body, Body::Python(_))) {
            sdk::install().map_err(|error| SteerError::Sdk(error.to_string()))?;
        }
        Ok(self.handle.begin_reload(plan, touched))
    }
}
