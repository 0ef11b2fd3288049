//! The open-ended flag map of a record: what we don't know survives byte for byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Flags by name. Values keep their JSON text, so that numbers too large for a float survive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(BTreeMap<String, Box<RawValue>>);

impl Flags {
    /// Being created or deleted: whoever loads such a layer with the write lock deletes it.
    pub const INCOMPLETE: &'static str = "incomplete";
    /// A layer of a pull that is not finished, made by the process with this staging area.
    pub const UNFINISHED: &'static str = "strata-unfinished";
    /// A container whose contents need not survive a loss of power.
    pub const VOLATILE: &'static str = "Volatile";
    /// The SELinux label of a container's mount.
    pub const MOUNT_LABEL: &'static str = "MountLabel";
    /// The SELinux label of a container's processes.
    pub const PROCESS_LABEL: &'static str = "ProcessLabel";
    /// Options that a container's layer is mounted with.
    pub const MOUNT_OPTIONS: &'static str = "MountOpts";

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `name`, if it is of this type.
    pub fn find<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// True when `name` is set to true.
    pub fn is_set(&self, name: &str) -> bool {
        self.find(name).unwrap_or(false)
    }

    /// Sets `name`; a value that can't be JSON leaves the map alone.
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        if let Ok(text) = super::json::to_string(value)
            && let Ok(value) = RawValue::from_string(text)
        {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}
