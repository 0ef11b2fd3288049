//! The root directory of a layer's contents: its mode and its owner, which children inherit.

use std::ffi::OsStr;

use super::Overlay;
use crate::archive::override_stat::{self, OverrideStat};
use crate::store::driver::{DriverError, own};
use crate::sys::Dir;

/// The mode of a root directory that nothing says anything about.
const MODE: u32 = 0o555;

impl Overlay {
    /// Gives the root of a layer's contents, which was just made, what it has until a parent says more: the owner `root`.
    pub(super) fn make_root(&self, diff: &Dir, root: (u32, u32)) -> Result<(), DriverError> {
        own(diff, root, self.ignore_chown_errors)?;
        self.describe_root(diff, OverrideStat::directory(root, MODE))
    }

    /// Gives the root of a layer's contents the mode and owner that its parent's is meant to have. With a mask its owner
    /// on disk stays.
    pub(super) fn inherit_root(&self, diff: &Dir, parent: OverrideStat) -> Result<(), DriverError> {
        if self.force_mask.is_none() {
            let owner = (parent.uid, parent.gid);
            own(diff, owner, self.ignore_chown_errors)?;
        }
        self.describe_root(diff, parent)
    }

    /// Sets the mode. One that is forced is another than what is meant, as is the owner then.
    fn describe_root(&self, diff: &Dir, meant: OverrideStat) -> Result<(), DriverError> {
        match self.force_mask {
            None => Ok(diff.set_mode(meant.mode)?),
            Some(mask) => {
                diff.set_attribute("", override_stat::KEY, &meant.to_value())?;
                Ok(diff.set_mode(mask)?)
            }
        }
    }
}

/// What the root of a layer's contents is meant to be, whoever made it.
pub(super) fn meant(diff: &Dir) -> Result<OverrideStat, DriverError> {
    let stat = override_stat::meant(diff, OsStr::new(""), diff.stat_self()?)?;
    Ok(OverrideStat::of(&stat))
}
