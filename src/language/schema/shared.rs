//! Shared objects.

use schemars::JsonSchema;

use super::scalar::{Anything, Count, Element, Initial, Truth, Whole, Yes};

/// An object that all workers share: exactly one kind.
#[derive(Default, JsonSchema)]
#[schemars(default, deny_unknown_fields, extend("oneOf" = [
    {"required": ["value"]}, {"required": ["array", "length"]}, {"required": ["lock"]},
    {"required": ["semaphore"]}, {"required": ["event"]}, {"required": ["barrier"]}, {"required": ["dict"]}
]))]
pub(super) struct Shared {
    /// One number or truth value.
    value: Element,
    /// The first value; otherwise 0 or `false`.
    initial: Initial,
    /// A fixed number of numbers.
    array: Element,
    /// How many numbers the array has.
    length: Count,
    /// A mutual exclusion lock.
    lock: Yes,
    /// A counting semaphore with this many permits.
    semaphore: Count,
    /// An event, set or not at the start.
    event: Truth,
    /// A barrier of this many parties.
    barrier: Count,
    /// A dictionary with its first entries.
    dict: Whole<std::collections::BTreeMap<String, Anything>>,
}
