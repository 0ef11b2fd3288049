//! To which boot a volume's files belong, and whether they are safe from its end.
//!
//! An inline volume is mounted `volatile`: nothing is synced for it. Its metadata names the boot that
//! it was made in. What changes later stands in a small file of its container's `userdata`, which has
//! the last word:
//!
//! | Contents | Meaning |
//! |---|---|
//! | no file | made in the boot that the metadata names, and maybe torn after it |
//! | `<boot>` | goes on in this boot, and maybe torn after it |
//! | `<boot> drained` | read-only since all of it was synced in that boot |
//! | anything else | nobody knows: torn |

use super::Definition;
use super::definition::Lifecycle;
use crate::store::{self, Store};
use crate::sys::Durability;

const FILE: &str = "boot";
const DRAINED: &str = " drained";

/// What is known of a volume's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// They survive whatever happens.
    Durable,
    /// They were written in this boot, by its ID, and not synced.
    Volatile(String),
    /// They were synced in this boot, and not written since.
    Drained(String),
}

impl Files {
    /// Reads what is known of the files of a volume.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn of(
        store: &Store,
        container: &str,
        definition: &Definition,
    ) -> Result<Self, store::Error> {
        if definition.lifecycle == Lifecycle::Persistent {
            return Ok(Self::Durable);
        }
        let Some(boot) = definition.boot.clone() else {
            return Ok(Self::Durable);
        };
        Ok(match store.find_container_file(container, FILE)? {
            None => Self::Volatile(boot),
            Some(text) => Self::parse(&text),
        })
    }

    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\n');
        match text.strip_suffix(DRAINED) {
            Some(boot) if !boot.is_empty() => Self::Drained(boot.to_owned()),
            _ => Self::Volatile(text.to_owned()),
        }
    }

    /// Writes it down, atomically. With [`Durability::None`] it must be synced by the caller.
    ///
    /// # Errors
    /// When it can't be written; what was there before is then still there.
    pub fn write(
        &self,
        store: &Store,
        container: &str,
        durability: Durability,
    ) -> Result<(), store::Error> {
        let text = match self {
            Self::Durable => return Ok(()),
            Self::Volatile(boot) => format!("{boot}\n"),
            Self::Drained(boot) => format!("{boot}{DRAINED}\n"),
        };
        let dir = store.container_directory(container)?;
        dir.replace(FILE, text.as_bytes(), durability)?;
        Ok(())
    }

    /// True when they must not be used in `boot`.
    pub fn are_torn(&self, boot: Option<&str>) -> bool {
        matches!(self, Self::Volatile(own) if Some(own.as_str()) != boot)
    }

    /// True when they are read-only for the end of a boot.
    pub fn are_drained(&self) -> bool {
        matches!(self, Self::Drained(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_drained_outlives_its_boot() {
        let today = Some("today");
        for (text, torn, drained) in [
            ("today\n", false, false),
            ("yesterday\n", true, false),
            ("yesterday drained\n", false, true),
            ("", true, false),
            (" drained\n", true, false),
            ("yesterday draine", true, false),
        ] {
            let files = Files::parse(text.as_bytes());
            assert_eq!(files.are_torn(today), torn, "{text:?}");
            assert_eq!(files.are_drained(), drained, "{text:?}");
        }
        assert!(!Files::Durable.are_torn(None));
    }
}
