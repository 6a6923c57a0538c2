//! Bounded collections in any format that `serde` knows: as the collection itself.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::bounded::{Bound, Bounded, List, Text};

impl<C: Serialize, B> Serialize for Bounded<C, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// Reads a collection from any other format than that of a snapshot, up to its bound.
struct UpTo<C, B>(PhantomData<(C, B)>);

impl<B: Bound> UpTo<(), B> {
    fn refusal<E: Error>() -> E {
        E::custom(format_args!("{}: more than {} entries", B::FIELD, B::MAX))
    }
}

impl<'de, T: Deserialize<'de>, B: Bound> Visitor<'de> for UpTo<Vec<T>, B> {
    type Value = List<T, B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} elements", B::MAX)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            if list.len() == B::MAX {
                return Err(UpTo::<(), B>::refusal());
            }
            list.push(element);
        }
        Ok(list.into())
    }
}

impl<B: Bound> Visitor<'_> for UpTo<String, B> {
    type Value = Text<B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {} bytes", B::MAX)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.len() > B::MAX {
            return Err(UpTo::<(), B>::refusal());
        }
        Ok(text.into())
    }
}

impl<'de, T: Deserialize<'de>, B: Bound> Deserialize<'de> for List<T, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(UpTo::<Vec<T>, B>(PhantomData))
    }
}

impl<'de, B: Bound> Deserialize<'de> for Text<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UpTo::<String, B>(PhantomData))
    }
}
