//! Volumes: what is asked for, what is found, what is done.
//!
//! | File | What |
//! |---|---|
//! | [`handle`] | volume handles: which store, which object |
//! | [`attributes`] | attributes and parameters, made typed |
//! | [`definition`] | what a volume is, as its container's metadata says |
//! | [`plan`] | from what is found to what is wanted: pure |
//! | [`gate`] | one operation per volume at a time |

pub mod attributes;
pub mod definition;
pub mod gate;
pub mod handle;
pub mod plan;

use std::fmt;
use std::path::PathBuf;

pub use attributes::{AttributeError, Attributes, MountFlags, PullPolicy};
pub use definition::{Definition, Lifecycle};
pub use handle::{Handle, Place, StoreId};
pub use plan::Access;

/// A pull secret in docker-config form. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSecret(String);

impl PullSecret {
    /// Keeps the text of a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever logs in with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullSecret(..)")
    }
}

/// What a publish asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Which volume.
    pub handle: Handle,
    /// Where it shall be visible.
    pub target: PathBuf,
    /// What an inline volume is made from.
    pub attributes: Attributes,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// Who may use it.
    pub access: Access,
    /// Group that owns its root.
    pub group: Option<u32>,
    /// How to log in where its image is.
    pub secret: Option<PullSecret>,
}

/// Bounds of a size in bytes; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At least.
    pub required: i64,
    /// At most.
    pub limit: i64,
}

/// What the creation of a claim's volume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The name; a retry has the same.
    pub name: String,
    /// What it is made from.
    pub attributes: Attributes,
    /// How large it is to be.
    pub range: Range,
    /// How to log in where its image is.
    pub secret: Option<PullSecret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = PullSecret::new("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }
}
