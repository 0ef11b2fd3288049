//! [`IdMap`]: a range of user or group IDs of a container and where it lies on the host.

use serde::{Deserialize, Serialize};

/// One range of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// The first ID in the container.
    pub container_id: u32,
    /// The first ID on the host.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}
