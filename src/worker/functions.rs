//! The registry: functions of this program by their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Worker;
use super::cursor::Cursor;
use super::failure::{Boxed, Failure, caught};
use super::input::Records;
use crate::ipc::decode;
use crate::model::{Format, Mode, STDIN, STDOUT, TASK_PREFIX};

/// A function that is called for each record, as one worker has it.
pub(crate) type Call = Box<dyn FnMut(&mut Cursor<'_>) -> Result<(), Failure>>;

/// A function that is called once, and reads and emits by itself.
pub(crate) type Run = Arc<dyn Fn(&'static Worker) -> Result<(), Failure> + Send + Sync>;

/// Makes such a function with the state that one worker keeps.
type Make = Arc<dyn Fn(&'static Worker, CallBy) -> Result<Call, Failure> + Send + Sync>;

/// What a function of one record is called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallBy {
    Record,
    Batch,
    /// A number and an argument: its result goes back with the number, and so does its error.
    Task,
}

/// A function of a process of its own: it takes its argument, then it is called.
pub(crate) type Target =
    Arc<dyn Fn(&[u8]) -> Result<Box<dyn FnOnce() -> Result<(), Failure>>, Failure> + Send + Sync>;

/// A function as it was registered.
#[derive(Clone)]
pub(crate) enum Function {
    Map(Make),
    Stream(Run),
    Source(Run),
    Process(Target),
}

/// What a function was registered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Called for each record.
    Map,
    /// Given a stream of records.
    Stream,
    /// Called once, with none.
    Source,
    /// Called once, in a process that no stage has.
    Process,
}

impl Kind {
    /// `a stream function`.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Self::Map => "a function of one record",
            Self::Stream => "a function of a stream",
            Self::Source => "a source",
            Self::Process => "the function of a process",
        }
    }

    /// What is wrong with a stage that calls such a function, and what to do about it; `None` where nothing is.
    pub(crate) fn misfit(self, is_fed: bool, mode: Mode) -> Option<(&'static str, &'static str)> {
        let no_input = "has no input";
        match (self, is_fed, mode) {
            (Self::Map, true, Mode::Map | Mode::Each)
            | (Self::Stream, true, Mode::Stream)
            | (Self::Source, false, _) => None,
            (Self::Map, false, _) => {
                Some((no_input, "register it by `Functions::source`, or add an edge that leads to the stage"))
            }
            (Self::Stream, false, _) => {
                Some((no_input, "add an edge that leads to the stage, or register it by `Functions::source`"))
            }
            (Self::Map, true, Mode::Stream) => {
                Some(("has `mode: stream`", "remove it, or register the function by `Functions::stream`"))
            }
            (Self::Stream, true, _) => Some(("calls it for each record", "add `mode: stream` to the stage")),
            (Self::Process, ..) => Some((
                "calls it",
                "register it by `Functions::map`, `stream` or `source` as well, under another name",
            )),
            (Self::Source, true, _) => Some((
                "has an input",
                "register it by `Functions::map`, or remove the edge that leads to the stage",
            )),
        }
    }
}

/// The functions of a program, by the names that pipelines call them by.
///
/// Register them first thing in `main`, and hand them to [`init`](crate::init): every worker is this program again, and
/// must come to the same functions before anything else happens.
///
/// A function takes what serde can read and gives what serde can write, in the format of its stage's edges. What it
/// takes and gives in `lines` is text, a number or bytes; in `json` and `msgpack` any value. There a `Vec<u8>` is given as a list
/// of numbers; what serde calls bytes (`serde_bytes`) is bytes in `msgpack`.
///
/// ```no_run
/// use mpflow::Functions;
///
/// fn main() {
///     let functions = Functions::new()
///         .map("square", |number: u64| number * number)
///         .try_map("parse", |line: String| line.parse::<f64>())
///         .flat_map("words", |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///         .map_with("count", || Ok::<_, String>(0_u64), |seen, _: String| {
///             *seen += 1;
///             *seen
///         })
///         .stream("sum", |numbers: mpflow::Records<u64>| [numbers.sum::<u64>()])
///         .source("numbers", || 0..10_u64);
///     mpflow::init(&functions);
///     // … the program.
/// }
/// ```
///
/// What a function does wrong:
///
/// | it | happens |
/// |---|---|
/// | returns an error | the record has failed, with the error, its type and its causes; the worker goes on |
/// | panics | the record has failed, with the message and the place; the worker is replaced, since nobody knows in which state it is |
/// | is called with a record that is not its type, or gives what the format cannot carry | the record has failed |
/// | ends the process | that record's attempt has failed; the worker is replaced |
///
/// Each comes under the stage's `retry` and `on_error`, as everywhere. In a stream or a source there is no record to
/// blame: the worker fails.
#[derive(Clone, Default)]
pub struct Functions {
    by_name: BTreeMap<String, Function>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// Where results go: a worker's standard output.
#[derive(Clone, Copy)]
struct Give {
    worker: &'static Worker,
    port: Option<usize>,
    /// The number of the task, where it is called by tasks.
    task: Option<u64>,
}

impl Give {
    fn new(worker: &'static Worker) -> Self {
        Self { worker, port: worker.output(STDOUT), task: None }
    }

    /// The task has failed: whoever gave it is told so as of a result.
    fn failure(&self, number: u64, mut failure: Failure) -> Result<(), Failure> {
        let Some(port) = self.port else { return Err(failure) };
        self.worker.post().push(port, &(number, Err::<(), _>(&failure)))?;
        match failure.is_panic {
            false => Ok(()),
            true => {
                failure.is_answered = true;
                Err(failure)
            }
        }
    }

    fn value<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        if let (Some(port), Some(number)) = (self.port, self.task) {
            return self.worker.post().push(port, &(number, Ok::<_, ()>(value)));
        }
        match self.port {
            // A function that returns nothing gives nothing.
            Some(port) if std::any::type_name::<T>() != "()" => self.worker.post().push(port, value),
            _ => Ok(()),
        }
    }

    fn values<T: Serialize>(&self, values: impl IntoIterator<Item = T>) -> Result<(), Failure> {
        values.into_iter().try_for_each(|value| self.value(&value))
    }

    /// Of a stream: each leaves soon, until nobody reads.
    fn stream<T: Serialize>(&self, values: impl Iterator<Item = Result<T, Failure>>) -> Result<(), Failure> {
        for value in values {
            self.value(&value?)?;
            if self.port.is_some_and(|port| !self.worker.post().value_done(port)) {
                break;
            }
        }
        Ok(())
    }
}

impl Functions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// A function of one record with one result. One that returns `()` has none.
    pub fn map<In, Out, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        F: Fn(In) -> Out + Send + Sync + 'static,
    {
        self.add_map(name, || Ok(()), move |(), record, give| give.value(&function(record)))
    }

    /// A function of one record that may fail. What it fails with is what becomes a boxed error: a text, an error type,
    /// an `anyhow::Error`.
    pub fn try_map<In, Out, E, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Into<Boxed> + 'static,
        F: Fn(In) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.add_map(
            name,
            || Ok(()),
            move |(), record, give| give.value(&function(record).map_err(Failure::returned)?),
        )
    }

    /// A function of one record with as many results as it gives: a `Vec`, an `Option`, an iterator. They are coded as
    /// they come, so that a long iterator takes no memory.
    pub fn flat_map<In, Out, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: IntoIterator + 'static,
        Out::Item: Serialize,
        F: Fn(In) -> Out + Send + Sync + 'static,
    {
        self.add_map(name, || Ok(()), move |(), record, give| give.values(function(record)))
    }

    /// As [`Self::flat_map`], of a function that may fail.
    pub fn try_flat_map<In, Out, E, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: IntoIterator + 'static,
        Out::Item: Serialize,
        E: Into<Boxed> + 'static,
        F: Fn(In) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.add_map(
            name,
            || Ok(()),
            move |(), record, give| give.values(function(record).map_err(Failure::returned)?),
        )
    }

    /// A function of one record with a state that is made once in each worker, before it is ready: a connection, a
    /// model. One whose state cannot be made does not start, and its stage fails with the reason.
    pub fn map_with<S, In, Out, E, M, F>(self, name: &str, make: M, function: F) -> Self
    where
        S: 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Into<Boxed> + 'static,
        M: Fn() -> Result<S, E> + Send + Sync + 'static,
        F: Fn(&mut S, In) -> Out + Send + Sync + 'static,
    {
        let make = move || make().map_err(Failure::returned);
        self.add_map(name, make, move |state, record, give| give.value(&function(state, record)))
    }

    /// As [`Self::map_with`], of a function that may fail.
    pub fn try_map_with<S, In, Out, E, X, M, F>(self, name: &str, make: M, function: F) -> Self
    where
        S: 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Into<Boxed> + 'static,
        X: Into<Boxed> + 'static,
        M: Fn() -> Result<S, E> + Send + Sync + 'static,
        F: Fn(&mut S, In) -> Result<Out, X> + Send + Sync + 'static,
    {
        let make = move || make().map_err(Failure::returned);
        self.add_map(name, make, move |state, record, give| {
            give.value(&function(state, record).map_err(Failure::returned)?)
        })
    }

    /// A function of a stream of records that gives a stream (`mode: stream`). What it gives leaves as it comes.
    pub fn stream<In, Out, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: IntoIterator + 'static,
        Out::Item: Serialize,
        F: Fn(Records<In>) -> Out + Send + Sync + 'static,
    {
        self.add_stream(name, move |worker, records| {
            Give::new(worker).stream(function(records).into_iter().map(Ok))
        })
    }

    /// As [`Self::stream`], of one whose stream may end with an error.
    pub fn try_stream<In, Out, T, E, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: IntoIterator<Item = Result<T, E>> + 'static,
        T: Serialize,
        E: Into<Boxed> + 'static,
        F: Fn(Records<In>) -> Out + Send + Sync + 'static,
    {
        self.add_stream(name, move |worker, records| {
            let values = function(records).into_iter();
            Give::new(worker).stream(values.map(|value| value.map_err(Failure::returned)))
        })
    }

    /// A function that makes records out of nothing: for a stage without an input.
    pub fn source<Out, F>(self, name: &str, function: F) -> Self
    where
        Out: IntoIterator + 'static,
        Out::Item: Serialize,
        F: Fn() -> Out + Send + Sync + 'static,
    {
        let run: Run = Arc::new(move |worker| Give::new(worker).stream(function().into_iter().map(Ok)));
        self.add(name, Function::Source(run))
    }

    /// As [`Self::source`], of one that may end with an error.
    pub fn try_source<Out, T, E, F>(self, name: &str, function: F) -> Self
    where
        Out: IntoIterator<Item = Result<T, E>> + 'static,
        T: Serialize,
        E: Into<Boxed> + 'static,
        F: Fn() -> Out + Send + Sync + 'static,
    {
        let run: Run = Arc::new(move |worker| {
            let values = function().into_iter();
            Give::new(worker).stream(values.map(|value| value.map_err(Failure::returned)))
        });
        self.add(name, Function::Source(run))
    }

    /// A function for a [`Process`](crate::multiprocessing::Process) of its own. The process exits with 0 when it
    /// returns, and with 101 when it panics. Its argument may hold queues, locks and the other handles of
    /// [`multiprocessing`](crate::multiprocessing).
    pub fn process<In, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        F: Fn(In) + Send + Sync + 'static,
    {
        self.try_process(name, move |argument| {
            function(argument);
            Ok::<(), String>(())
        })
    }

    /// As [`Self::process`], of one that may fail: then the error goes to standard error, and the process exits with 1.
    pub fn try_process<In, E, F>(self, name: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        E: Into<Boxed> + 'static,
        F: Fn(In) -> Result<(), E> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        let target: Target = Arc::new(move |argument| {
            let argument: In =
                decode(Format::Msgpack, argument).map_err(|error| Failure::undecodable(error.to_string()))?;
            let function = Arc::clone(&function);
            Ok(Box::new(move || function(argument).map_err(Failure::returned)))
        });
        self.add(name, Function::Process(target))
    }

    fn add_map<S, In>(
        self,
        name: &str,
        make: impl Fn() -> Result<S, Failure> + Send + Sync + 'static,
        function: impl Fn(&mut S, In, &Give) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self
    where
        S: 'static,
        In: DeserializeOwned + 'static,
    {
        let function = Arc::new(function);
        let make: Make = Arc::new(move |worker, by| {
            let (mut state, function, give) = (make()?, Arc::clone(&function), Give::new(worker));
            Ok(match by {
                CallBy::Record => Box::new(move |cursor| function(&mut state, cursor.next()?, &give)),
                CallBy::Batch => Box::new(move |cursor| function(&mut state, cursor.all()?, &give)),
                CallBy::Task => Box::new(move |cursor| {
                    let (number, argument): (u64, In) = cursor.next()?;
                    let give = Give { task: Some(number), ..give };
                    match caught(|| function(&mut state, argument, &give)) {
                        Ok(()) => Ok(()),
                        Err(failure) => give.failure(number, failure),
                    }
                }),
            })
        });
        self.add(name, Function::Map(make))
    }

    fn add_stream<In: DeserializeOwned + 'static>(
        self,
        name: &str,
        run: impl Fn(&'static Worker, Records<In>) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        let run: Run = Arc::new(move |worker| {
            let records = worker.input(STDIN).map_err(Failure::returned)?;
            run(worker, records)
        });
        self.add(name, Function::Stream(run))
    }

    /// # Panics
    ///
    /// Another function has the name: one of the two could never be called.
    fn add(mut self, name: &str, function: Function) -> Self {
        let before = self.by_name.insert(name.to_owned(), function);
        assert!(!name.starts_with(TASK_PREFIX), "no function may be registered as `{TASK_PREFIX}…`");
        assert!(before.is_none(), "two functions are registered as `{name}`: give one of them another name");
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Function> {
        self.by_name.get(name.strip_prefix(TASK_PREFIX).unwrap_or(name))
    }

    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        Some(match self.get(name)? {
            Function::Map(_) => Kind::Map,
            Function::Stream(_) => Kind::Stream,
            Function::Source(_) => Kind::Source,
            Function::Process(_) => Kind::Process,
        })
    }
}
