//! Numbers in shared memory.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::event::SharedWords;

/// What a [`Value`] and the elements of an [`Array`] can be: `i64`, `u64`, `f64`, `bool`.
pub trait Number: Copy + private::Sealed {
    /// As it lies in memory.
    fn to_word(self) -> u64;
    /// From how it lies in memory.
    fn from_word(word: u64) -> Self;
}

mod private {
    pub trait Sealed {}
}

macro_rules! number {
    ($($type:ty: $value:ident => $to:expr, $word:ident => $from:expr;)*) => {
        $(
            impl private::Sealed for $type {}
            impl Number for $type {
                fn to_word(self) -> u64 {
                    let $value = self;
                    $to
                }

                fn from_word($word: u64) -> Self {
                    $from
                }
            }
        )*
    };
}

number! {
    u64: value => value, word => word;
    i64: value => value.cast_unsigned(), word => word.cast_signed();
    f64: value => value.to_bits(), word => f64::from_bits(word);
    bool: value => u64::from(value), word => word != 0;
}

/// A row of numbers that processes share. Python's `multiprocessing.Array`.
///
/// Clones are the same numbers. Each is read and written whole; what is more than that, [`Array::update`] does in one
/// step. No lock is needed, so that nobody's death leaves one locked.
pub struct Array<T> {
    words: SharedWords,
    numbers: PhantomData<fn() -> T>,
}

/// A number that processes share. Python's `multiprocessing.Value`. See [`Array`].
pub struct Value<T>(Array<T>);

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { words: self.words.clone(), numbers: PhantomData }
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Number> Array<T> {
    /// So many, which may be none, all of this value.
    ///
    /// # Errors
    ///
    /// There is not so much shared memory to be had.
    pub fn new(length: usize, initial: T) -> Result<Self, Error> {
        // One more word says how many there are: memory is never empty.
        let words = SharedWords::new(length as u64 + 1)?;
        words.at(0).store(length as u64, Ordering::SeqCst);
        let array = Self { words, numbers: PhantomData };
        if initial.to_word() != 0 {
            (0..length).for_each(|index| array.set(index, initial));
        }
        Ok(array)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.words().len() as usize - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn word(&self, index: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(index < self.len(), "element {index} of an array of {}", self.len());
        self.words.at(index as u64 + 1)
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// There is no such element, here and in the other calls with an index.
    pub fn get(&self, index: usize) -> T {
        T::from_word(self.word(index).load(Ordering::SeqCst))
    }

    /// Writes one of them.
    pub fn set(&self, index: usize, value: T) {
        self.word(index).store(value.to_word(), Ordering::SeqCst);
    }

    /// Changes one of them in one step: no other change comes in between. `change` may be called more than once. Returns
    /// what it is then.
    pub fn update(&self, index: usize, mut change: impl FnMut(T) -> T) -> T {
        let word = self.word(index);
        let mut seen = word.load(Ordering::SeqCst);
        loop {
            let next = change(T::from_word(seen));
            match word.compare_exchange_weak(seen, next.to_word(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return next,
                Err(now) => seen = now,
            }
        }
    }

    /// All of them, one after the other: others may change while they are read.
    pub fn to_vec(&self) -> Vec<T> {
        (0..self.len()).map(|index| self.get(index)).collect()
    }
}

impl<T: Number> Value<T> {
    /// One of this value.
    ///
    /// # Errors
    ///
    /// There is no shared memory to be had.
    pub fn new(initial: T) -> Result<Self, Error> {
        Ok(Self(Array::new(1, initial)?))
    }

    /// What it is.
    pub fn get(&self) -> T {
        self.0.get(0)
    }

    /// Writes it.
    pub fn set(&self, value: T) {
        self.0.set(0, value);
    }

    /// Changes it in one step, as `with value.get_lock(): value.value += 1` does. See [`Array::update`].
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        self.0.update(0, change)
    }
}

impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words.serialize(serializer)
    }
}

impl<'de, T: Number> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { words: SharedWords::deserialize(deserializer)?, numbers: PhantomData })
    }
}

impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Number> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let array: Array<T> = Array::deserialize(deserializer)?;
        match array.is_empty() {
            true => Err(serde::de::Error::custom("shared memory without a value")),
            false => Ok(Self(array)),
        }
    }
}

impl<T: Number + std::fmt::Debug> std::fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.to_vec()).finish()
    }
}

impl<T: Number + std::fmt::Debug> std::fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Value").field(&self.get()).finish()
    }
}
