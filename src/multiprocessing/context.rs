//! Start methods.

use crate::model::StartMethod;
use crate::process::Origin;

/// How processes come to be. Python's `multiprocessing.get_context`. The default is [`Context::spawn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context(pub(super) Method);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Method {
    #[default]
    Spawn,
    Fork,
    Forkserver,
}

impl Context {
    /// A process is this program, executed again.
    pub fn spawn() -> Self {
        Self(Method::Spawn)
    }

    /// A process is a copy of this program as it was at [`init`](crate::init), with what it had in memory.
    pub fn fork() -> Self {
        Self(Method::Fork)
    }

    /// A process is a copy of a small server: this program, executed again, that has done nothing but come to `init`.
    pub fn forkserver() -> Self {
        Self(Method::Forkserver)
    }

    pub(super) fn origin(self) -> Origin {
        match self.0 {
            Method::Fork => Origin::Seed,
            Method::Spawn | Method::Forkserver => Origin::Anew,
        }
    }

    /// As the language has it.
    pub(super) fn start_method(self) -> StartMethod {
        match self.0 {
            Method::Spawn => StartMethod::Spawn,
            Method::Fork => StartMethod::Fork,
            Method::Forkserver => StartMethod::Forkserver,
        }
    }
}
