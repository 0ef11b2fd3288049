//! Volume handles: which store, which object.
//!
//! | Handle | Volume | ID of its container |
//! |---|---|---|
//! | `v1.<store8>.<64 hex>` | of a claim | the 64 digits |
//! | `csi-<64 hex>` | inline, named by the kubelet | the 64 digits |
//! | anything else | inline | a digest of the handle |
//!
//! `store8` are the first 8 digits of the store's own ID, so that a volume of another store is told
//! from one that is unknown.

use std::fmt;

use crate::digest::Digest;

const PREFIX: &str = "v1.";
const INLINE_PREFIX: &str = "csi-";

/// The ID that a store keeps for its whole life: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreId(String);

/// The text is no ID of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the ID of a store (32 hexadecimal digits)")]
pub struct ParseStoreIdError {
    text: String,
}

impl StoreId {
    /// Takes an ID as the store gives it.
    ///
    /// # Errors
    /// When the text is no such ID.
    pub fn parse(text: &str) -> Result<Self, ParseStoreIdError> {
        if text.len() == 32 && text.bytes().all(is_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseStoreIdError {
                text: text.to_owned(),
            })
        }
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that handles carry.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    /// The handle of a claim's volume, from the name that its creator gave it: a retry gets the same.
    pub fn handle_for_name(&self, name: &str) -> Handle {
        let digest = Digest::of(format!("strata volume {} {name}", self.0).as_bytes());
        self.handle_of(digest.hex())
    }

    /// The handle of the claim's volume whose container has this ID.
    pub fn handle_of(&self, container: &str) -> Handle {
        Handle {
            text: format!("{PREFIX}{}.{container}", self.short()),
            container: container.to_owned(),
            place: Place::Claim,
        }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a handle leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The volume of a claim, in this store.
    Claim,
    /// The volume of a claim, in another store.
    OtherStore,
    /// Looks like the handle of a claim's volume but is none.
    Broken,
    /// Inline, in the form that the kubelet chooses.
    Inline,
    /// Anything else; inline, if the call says so.
    Other,
}

/// A volume handle, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    text: String,
    container: String,
    place: Place,
}

impl Handle {
    /// Takes a handle apart, as the store with this ID sees it. Every text is some handle.
    pub fn parse(text: &str, store: &StoreId) -> Self {
        let (place, container) = if let Some(rest) = text.strip_prefix(PREFIX) {
            match rest.split_once('.') {
                Some((short, id)) if is_id(id) && short.len() == 8 && short.bytes().all(is_hex) => {
                    if short == store.short() {
                        (Place::Claim, id.to_owned())
                    } else {
                        (Place::OtherStore, id.to_owned())
                    }
                }
                _ => (Place::Broken, String::new()),
            }
        } else {
            match text.strip_prefix(INLINE_PREFIX) {
                Some(id) if is_id(id) => (Place::Inline, id.to_owned()),
                _ => {
                    let digest = Digest::of(format!("strata inline volume {text}").as_bytes());
                    (Place::Other, digest.hex().to_owned())
                }
            }
        };
        Self {
            text: text.to_owned(),
            container,
            place,
        }
    }

    /// The handle itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The ID that the volume's container has or would have; empty for a broken handle.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Where it leads.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// 64 lower-case hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> StoreId {
        StoreId::parse("0a1b2c3d00004000800000000000000f").unwrap()
    }

    #[test]
    fn handles_are_told_apart() {
        let id = "ab".repeat(32);
        let cases = [
            (format!("v1.0a1b2c3d.{id}"), Place::Claim, Some(&id)),
            (format!("v1.ffffffff.{id}"), Place::OtherStore, Some(&id)),
            ("v1.0a1b2c3d.abc".to_owned(), Place::Broken, None),
            (format!("v1.0a1b2c3.{id}"), Place::Broken, None),
            (format!("csi-{id}"), Place::Inline, Some(&id)),
            (format!("csi-{}", id.to_uppercase()), Place::Other, None),
            ("anything".to_owned(), Place::Other, None),
            ("../../etc".to_owned(), Place::Other, None),
        ];
        for (text, place, container) in cases {
            let handle = Handle::parse(&text, &store());
            assert_eq!(handle.place(), place, "{text}");
            assert_eq!(handle.as_str(), text);
            match container {
                Some(container) => assert_eq!(handle.container(), container),
                None => assert!(
                    place == Place::Broken || is_id(handle.container()),
                    "{text}"
                ),
            }
        }
    }

    #[test]
    fn a_name_always_gives_the_same_handle() {
        let handle = store().handle_for_name("pvc-1");
        assert_eq!(handle, store().handle_for_name("pvc-1"));
        assert_ne!(handle, store().handle_for_name("pvc-2"));
        assert_eq!(handle, Handle::parse(handle.as_str(), &store()));
        assert!(handle.as_str().len() <= 128);
    }

    #[test]
    fn only_32_digits_are_the_id_of_a_store() {
        for bad in ["", "0a1b2c3d", "0A1B2C3D00004000800000000000000F"] {
            assert!(StoreId::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(store().short(), "0a1b2c3d");
    }
}
