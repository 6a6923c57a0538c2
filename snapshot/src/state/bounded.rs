//! Lists and texts whose bound is known before they are parsed.
//!
//! A length is the first thing that is read of a list, and nothing else is read of one that is too
//! long: the refusal names the field. So the time and memory that a state takes are bounded by its
//! fields, whoever wrote it, and no type of this module can be parsed in another way.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Path of a field, and the most entries that it has.
pub trait Bound {
    /// Path of the field, as `queues.in_flight`.
    const FIELD: &'static str;
    /// Most elements of a list, or bytes of a text.
    const MAX: usize;
}

/// A list of at most `B::MAX` elements, once it is written or read.
pub type List<T, B> = Bounded<Vec<T>, B>;

/// A text of at most `B::MAX` bytes, once it is written or read.
pub type Text<B> = Bounded<String, B>;

/// A collection that is neither written nor read if it exceeds the bound `B`. In memory it is the
/// collection, of any length.
pub struct Bounded<C, B> {
    inner: C,
    bound: PhantomData<B>,
}

impl<C, B> Bounded<C, B> {
    /// The collection itself.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C, B> From<C> for Bounded<C, B> {
    fn from(inner: C) -> Self {
        Self {
            inner,
            bound: PhantomData,
        }
    }
}

impl<B> From<&str> for Text<B> {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<T, B> FromIterator<T> for List<T, B> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Vec::from_iter(elements).into()
    }
}

impl<'a, C, B> IntoIterator for &'a Bounded<C, B>
where
    &'a C: IntoIterator,
{
    type Item = <&'a C as IntoIterator>::Item;
    type IntoIter = <&'a C as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.inner.into_iter()
    }
}

impl<'a, C, B> IntoIterator for &'a mut Bounded<C, B>
where
    &'a mut C: IntoIterator,
{
    type Item = <&'a mut C as IntoIterator>::Item;
    type IntoIter = <&'a mut C as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&mut self.inner).into_iter()
    }
}

impl<C, B> Deref for Bounded<C, B> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.inner
    }
}

impl<C, B> DerefMut for Bounded<C, B> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.inner
    }
}

impl<C: Clone, B> Clone for Bounded<C, B> {
    fn clone(&self) -> Self {
        self.inner.clone().into()
    }
}

impl<C: Default, B> Default for Bounded<C, B> {
    fn default() -> Self {
        C::default().into()
    }
}

impl<C: fmt::Debug, B> fmt::Debug for Bounded<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<C: PartialEq, B> PartialEq for Bounded<C, B> {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl<B> PartialEq<&str> for Text<B> {
    fn eq(&self, other: &&str) -> bool {
        self.inner == *other
    }
}

impl<C: Eq, B> Eq for Bounded<C, B> {}
