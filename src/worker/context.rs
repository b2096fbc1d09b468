//! What a function may ask its worker for.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::input::{Inlet, Records};
use super::outbox::Post;
use crate::model::nearest;
use crate::shared;

static WORKER: OnceLock<Worker> = OnceLock::new();

/// The worker that this process is, for what runs in a function; `None` in every other process.
///
/// It is Python's `mpflow.worker`, `mpflow.emit`, `mpflow.input` and `mpflow.connection` in one.
pub fn worker() -> Option<&'static Worker> {
    WORKER.get()
}

/// A process that works for a stage: who it is, and its further ports.
#[derive(Debug)]
pub struct Worker {
    name: String,
    rank: usize,
    pool: usize,
    stage: String,
    pipeline: String,
    run_id: String,
    args: Vec<Value>,
    kwargs: serde_json::Map<String, Value>,
    post: Post,
    inputs: Mutex<HashMap<String, Option<Inlet>>>,
    leased: Option<String>,
    connections: Mutex<BTreeMap<String, Option<OwnedFd>>>,
    control: OwnedFd,
}

/// What a [`Worker`] is made of.
pub(crate) struct Parts {
    pub(crate) stage: String,
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: serde_json::Map<String, Value>,
    pub(crate) post: Post,
    pub(crate) inputs: Vec<Inlet>,
    /// Of a port whose records come as calls.
    pub(crate) leased: Option<String>,
    pub(crate) connections: BTreeMap<String, OwnedFd>,
    pub(crate) control: OwnedFd,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Post")
    }
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why a port, or a pipe to another stage, is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The stage has no port, or no pipe, of this name.
    #[error("there is no {what} `{name}`: {advice}")]
    Unknown {
        /// `output port`, `input port` or `pipe to stage`.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest name, or what there is.
        advice: String,
    },
    /// It was asked for before, and belongs to whoever did.
    #[error("`{0}` was taken before")]
    Taken(String),
    /// The records of this port come as calls of the function.
    #[error("the records of `{0}` come as calls of the function in `map` mode")]
    Leased(String),
    /// The value is nothing that the port's format can carry. Nothing was emitted.
    #[error("{0}")]
    Uncodable(String),
}

impl PortError {
    fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        let advice = match nearest(name, known.clone()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => match known.collect::<Vec<_>>()[..] {
                [] => "this stage has none".to_owned(),
                ref names => format!("this stage has `{}`", names.join("`, `")),
            },
        };
        Self::Unknown { what, name: name.to_owned(), advice }
    }
}

impl Worker {
    /// Makes this process a worker. Once.
    pub(crate) fn install(parts: Parts) -> &'static Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let mut inputs: HashMap<_, _> =
            parts.inputs.into_iter().map(|inlet| (inlet.name.clone(), Some(inlet))).collect();
        if let Some(leased) = &parts.leased {
            inputs.insert(leased.clone(), None);
        }
        let worker = Self {
            name: variable("MPFLOW_WORKER"),
            rank: variable("MPFLOW_RANK").parse().unwrap_or(0),
            pool: variable("MPFLOW_POOL").parse().unwrap_or(1),
            stage: parts.stage,
            pipeline: parts.pipeline,
            run_id: parts.run_id,
            args: parts.args,
            kwargs: parts.kwargs,
            post: parts.post,
            inputs: Mutex::new(inputs),
            leased: parts.leased,
            connections: Mutex::new(
                parts.connections.into_iter().map(|(name, fd)| (name, Some(fd))).collect(),
            ),
            control: parts.control,
        };
        WORKER.get_or_init(|| worker)
    }

    /// `stage`, or `stage/RANK` in a pool.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the pool, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many workers the stage has at most.
    pub fn pool(&self) -> usize {
        self.pool
    }

    /// The stage's name.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The run's id, as in `MPFLOW_RUN_ID`.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// One of the stage's `args`, counted from 0.
    ///
    /// # Errors
    ///
    /// There is no such argument, or it is no `T`.
    pub fn arg<T: DeserializeOwned>(&self, position: usize) -> Result<T, serde_json::Error> {
        let value = self.args.get(position).ok_or_else(|| {
            serde_json::Error::custom(format!(
                "stage `{}` has {} `args`, and number {position} was asked for",
                self.stage,
                self.args.len()
            ))
        })?;
        T::deserialize(value)
    }

    /// One of the stage's `kwargs`.
    ///
    /// # Errors
    ///
    /// There is no such argument, or it is no `T`.
    pub fn kwarg<T: DeserializeOwned>(&self, name: &str) -> Result<T, serde_json::Error> {
        let value = self.kwargs.get(name).ok_or_else(|| {
            serde_json::Error::custom(format!("stage `{}` has no `{name}` in its `kwargs`", self.stage))
        })?;
        T::deserialize(value)
    }

    /// Emits a record on an output port by its name. In `map` mode it belongs to the record that is being worked on: it
    /// leaves when that is done, and not at all if that fails. A port that nobody reads takes everything.
    ///
    /// # Errors
    ///
    /// [`PortError::Unknown`], [`PortError::Uncodable`]; nothing was emitted.
    pub fn emit<T: Serialize + ?Sized>(&self, port: &str, value: &T) -> Result<(), PortError> {
        let position =
            self.output(port).ok_or_else(|| PortError::unknown("output port", port, self.post.names()))?;
        self.post.push(position, value).map_err(|failure| PortError::Uncodable(failure.error))
    }

    /// The records of a further input port.
    ///
    /// # Errors
    ///
    /// [`PortError::Unknown`], [`PortError::Taken`], [`PortError::Leased`].
    pub fn input<T: DeserializeOwned>(&'static self, port: &str) -> Result<Records<T>, PortError> {
        Ok(Records::new(self, self.take_input(port)?))
    }

    pub(crate) fn take_input(&self, port: &str) -> Result<Inlet, PortError> {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = inputs.keys().cloned().collect();
        match inputs.get_mut(port) {
            None => Err(PortError::unknown("input port", port, names.iter().map(String::as_str))),
            Some(inlet) => inlet.take().ok_or_else(|| match self.leased.as_deref() == Some(port) {
                true => PortError::Leased(port.to_owned()),
                false => PortError::Taken(port.to_owned()),
            }),
        }
    }

    /// This worker's end of a `pipe` to another stage: a connected stream socket where the edge is `duplex`, else an
    /// end of a pipe.
    ///
    /// # Errors
    ///
    /// [`PortError::Unknown`], [`PortError::Taken`].
    pub fn connection(&self, stage: &str) -> Result<OwnedFd, PortError> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = connections.keys().cloned().collect();
        match connections.get_mut(stage) {
            None => Err(PortError::unknown("pipe to stage", stage, names.iter().map(String::as_str))),
            Some(fd) => fd.take().ok_or_else(|| PortError::Taken(stage.to_owned())),
        }
    }

    /// The pipeline's shared objects: locks, semaphores, values and the others.
    ///
    /// # Errors
    ///
    /// [`shared::Error::NotInARun`]: the pipeline declares none; those of the connection.
    pub fn shared(&self) -> Result<shared::Client, shared::Error> {
        shared::Client::connect()
    }

    pub(crate) fn post(&self) -> &Post {
        &self.post
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The position of an output port.
    pub(crate) fn output(&self, name: &str) -> Option<usize> {
        self.post.names().position(|port| port == name)
    }
}
