//! What a volume is: written once into the metadata of its container, never changed afterwards.

use super::attributes::Pod;

const VERSION: u32 = 1;

/// How long a volume lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// As long as the pod that it was made for.
    Ephemeral,
    /// Until it is deleted.
    Persistent,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Version of this form.
    strata_volume: u32,
    /// The handle by which the kubelet knows it.
    pub handle: String,
    /// How long it lives.
    pub lifecycle: Lifecycle,
    /// The name that its creator gave it; claims only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Reference of the image that it started as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Platform of that image, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Size that was promised, in bytes; claims only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub capacity: i64,
    /// The boot that its files belong to, when they may be lost with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The pod that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for this form"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Definition {
    /// A definition with the handle and lifecycle; everything else empty.
    pub fn new(handle: impl Into<String>, lifecycle: Lifecycle) -> Self {
        Self {
            strata_volume: VERSION,
            handle: handle.into(),
            lifecycle,
            name: None,
            image: None,
            platform: None,
            capacity: 0,
            boot: None,
            pod: None,
        }
    }

    /// Reads a container's metadata; `None` when the container is no volume.
    pub fn from_metadata(metadata: &str) -> Option<Self> {
        // Cheap for the containers of other tools, whose metadata may be large.
        if !metadata.contains("\"strataVolume\"") {
            return None;
        }
        serde_json::from_str(metadata).ok()
    }

    /// The form that a container's metadata has.
    pub fn to_metadata(&self) -> String {
        serde_json::to_string(self).expect("text and numbers always have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_was() {
        let mut definition = Definition::new("csi-1", Lifecycle::Ephemeral);
        assert_eq!(
            definition.to_metadata(),
            r#"{"strataVolume":1,"handle":"csi-1","lifecycle":"ephemeral"}"#
        );
        definition.image = Some("busybox".to_owned());
        definition.boot = Some("b".to_owned());
        let again = Definition::from_metadata(&definition.to_metadata()).unwrap();
        assert_eq!(again, definition);
    }

    #[test]
    fn other_tools_containers_are_no_volumes() {
        for metadata in ["", "{}", r#"{"image-name":"x"}"#, "not JSON"] {
            assert_eq!(Definition::from_metadata(metadata), None, "{metadata}");
        }
        let newer = r#"{"strataVolume":2,"handle":"h","lifecycle":"ephemeral","future":1}"#;
        assert!(Definition::from_metadata(newer).is_some());
    }
}
