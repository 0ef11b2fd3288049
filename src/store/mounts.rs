//! Which layers are mounted where, and how often: `mountpoints.json` in the run root.

use serde::{Deserialize, Serialize};

use super::row::{Record, Shape};

/// One mounted layer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MountRecord {
    /// The layer's ID.
    pub id: String,
    /// The absolute mount point.
    #[serde(default)]
    pub path: String,
    /// How many asked for it and have not let go; at least 1 in a saved record.
    #[serde(default)]
    pub count: i64,
}

impl Record for MountRecord {
    fn shape(key: &str) -> Option<Shape> {
        match key {
            "id" | "path" => Some(Shape::Text),
            "count" => Some(Shape::Number),
            _ => None,
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}
