//! [`RecordedDigest`]: what a record has in the place of a digest.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// A digest, or none, or a text that is no digest: other tools and administrators may have written one. It is saved as it
/// was, finds nothing, and is for `check` to tell of; the rest of the store has nothing to do with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordedDigest {
    /// Nothing: the key is not there, or its value is empty.
    #[default]
    None,
    /// A digest.
    Digest(Digest),
    /// Something else.
    Opaque(Box<str>),
}

impl RecordedDigest {
    /// The digest, when it is one.
    pub fn get(&self) -> Option<&Digest> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::None | Self::Opaque(_) => None,
        }
    }

    /// True when nothing is recorded.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The text, which is no digest where [`RecordedDigest::get`] finds none.
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Digest(digest) => digest.as_str(),
            Self::Opaque(text) => text,
        }
    }
}

impl From<Digest> for RecordedDigest {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl PartialEq<Option<Digest>> for RecordedDigest {
    fn eq(&self, other: &Option<Digest>) -> bool {
        match other {
            Some(digest) => self.get() == Some(digest),
            None => self.is_none(),
        }
    }
}

impl Serialize for RecordedDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RecordedDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<Cow<'de, str>>::deserialize(deserializer)? {
            None => Self::None,
            Some(text) if text.is_empty() => Self::None,
            Some(text) => match text.parse() {
                Ok(digest) => Self::Digest(digest),
                Err(_) => Self::Opaque(text.into()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_digest_is_kept_as_it_is() {
        let digest = Digest::of(b"");
        for text in ["", "bogus", "sha256:", digest.as_str()] {
            let json = serde_json::to_string(text).unwrap();
            let recorded: RecordedDigest = serde_json::from_str(&json).unwrap();
            assert_eq!(recorded.get().is_some(), text == digest.as_str());
            assert_eq!(serde_json::to_string(&recorded).unwrap(), json);
        }
        let none: RecordedDigest = serde_json::from_str("null").unwrap();
        assert!(none.is_none());
    }
}
