//! Descriptors inside values: a handle that is part of what a process is started with.
//!
//! Serde knows no descriptors. So while such a value is coded, a list lies ready that [`Passed`] puts its descriptor
//! into, coding its place in the list instead; and while it is decoded, the list that came with it.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    static GIVEN: RefCell<Option<Vec<OwnedFd>>> = const { RefCell::new(None) };
    static TAKEN: RefCell<Option<Vec<Option<OwnedFd>>>> = const { RefCell::new(None) };
}

/// A descriptor in a value.
#[derive(Debug)]
pub(crate) struct Passed<'a>(pub(crate) &'a OwnedFd);

impl Serialize for Passed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = GIVEN.with_borrow_mut(|given| {
            let given = given.as_mut().ok_or_else(|| {
                S::Error::custom(
                    "a handle passes to another process only in what a `Process` is started with",
                )
            })?;
            let copy = self.0.try_clone().map_err(S::Error::custom)?;
            given.push(copy);
            Ok(given.len() - 1)
        })?;
        serializer.serialize_u64(place as u64)
    }
}

/// Takes the descriptor that a [`Passed`] has left.
pub(crate) fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    let place = usize::try_from(u64::deserialize(deserializer)?).map_err(D::Error::custom)?;
    TAKEN.with_borrow_mut(|taken| {
        let taken = taken.as_mut().ok_or_else(|| D::Error::custom("no descriptors came with this handle"))?;
        let fd = taken.get_mut(place).and_then(Option::take);
        fd.ok_or_else(|| D::Error::custom("the descriptor of this handle did not come with it"))
    })
}

/// Codes something, and gathers the descriptors in it.
pub(crate) fn giving<T>(code: impl FnOnce() -> T) -> (T, Vec<OwnedFd>) {
    GIVEN.set(Some(Vec::new()));
    let coded = code();
    (coded, GIVEN.take().unwrap_or_default())
}

/// Decodes something that came with these descriptors. What nobody took is closed.
pub(crate) fn taking<T>(descriptors: Vec<OwnedFd>, decode: impl FnOnce() -> T) -> T {
    TAKEN.set(Some(descriptors.into_iter().map(Some).collect()));
    let decoded = decode();
    TAKEN.set(None);
    decoded
}
