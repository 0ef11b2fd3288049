//! Which pods have volumes of a driver: asked before the driver is uninstalled. Pure.

use std::collections::HashSet;
use std::fmt;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};

/// A claim: its namespace and name.
pub type Claim = (String, String);

/// A pod that has volumes of the driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it is on.
    pub node: String,
    /// Names that its volumes have in the pod.
    pub volumes: Vec<String>,
    /// Whether it was deleted already, and waits for its volumes to be taken down.
    pub is_ending: bool,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} on {} ({}{})",
            self.namespace,
            self.name,
            self.node,
            self.volumes.join(", "),
            if self.is_ending { "; ending" } else { "" }
        )
    }
}

/// The claim that a persistent volume of the driver is bound to.
pub fn claim(driver: &str, volume: &PersistentVolume) -> Option<Claim> {
    let spec = volume.spec.as_ref()?;
    if spec.csi.as_ref()?.driver != driver {
        return None;
    }
    let claim = spec.claim_ref.as_ref()?;
    Some((claim.namespace.clone()?, claim.name.clone()?))
}

/// The pod as a user of the driver; `None` when it has none of its volumes, is on no node yet, or has
/// ended (the kubelet has then taken its volumes down).
pub fn user(driver: &str, claims: &HashSet<Claim>, pod: &Pod) -> Option<User> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.as_ref()?;
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if !is_ending && matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let namespace = pod.metadata.namespace.clone()?;
    let name = pod.metadata.name.clone()?;
    let has = |claim: String| claims.contains(&(namespace.clone(), claim));
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| {
            let inline = volume.csi.as_ref().is_some_and(|csi| csi.driver == driver);
            let claimed = volume
                .persistent_volume_claim
                .as_ref()
                .is_some_and(|claim| has(claim.claim_name.clone()));
            // Kubernetes names the claim of a generic ephemeral volume so.
            let ephemeral = volume.ephemeral.is_some() && has(format!("{name}-{}", volume.name));
            inline || claimed || ephemeral
        })
        .map(|volume| volume.name.clone())
        .collect();
    (!volumes.is_empty()).then(|| User {
        namespace: namespace.clone(),
        name: name.clone(),
        node: node.clone(),
        volumes,
        is_ending,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DRIVER: &str = "csi.strata.dev";

    fn pod(change: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "web-0"},
            "spec": {"nodeName": "node-1", "containers": [], "volumes": [
                {"name": "site", "csi": {"driver": DRIVER}},
                {"name": "other", "csi": {"driver": "csi.example.com"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "scratch", "ephemeral": {}},
                {"name": "config", "configMap": {}},
            ]},
            "status": {"phase": "Running"},
        });
        for (key, value) in change.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                pod[key][inner] = value.clone();
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    fn volume(driver: &str, name: &str) -> PersistentVolume {
        serde_json::from_value(json!({"spec": {
            "csi": {"driver": driver, "volumeHandle": "h"},
            "claimRef": {"namespace": "shop", "name": name},
        }}))
        .unwrap()
    }

    #[test]
    fn inline_claimed_and_generic_ephemeral_volumes_count() {
        let volumes = [
            volume(DRIVER, "data"),
            volume(DRIVER, "web-0-scratch"),
            volume("csi.example.com", "more"),
        ];
        let claims: HashSet<_> = volumes
            .iter()
            .filter_map(|one| claim(DRIVER, one))
            .collect();
        assert_eq!(claims.len(), 2);
        let found = user(DRIVER, &claims, &pod(&json!({}))).unwrap();
        assert_eq!(
            found.to_string(),
            "shop/web-0 on node-1 (site, data, scratch)"
        );
        let found = user(DRIVER, &HashSet::new(), &pod(&json!({}))).unwrap();
        assert_eq!(found.volumes, ["site"]);
        assert_eq!(
            user(
                "csi.none.com",
                &claims,
                &pod(&json!({"spec": {"volumes": []}}))
            ),
            None
        );
    }

    #[test]
    fn a_pod_counts_as_long_as_its_volumes_may_be_mounted() {
        let none = HashSet::new();
        let found = |change: Value| user(DRIVER, &none, &pod(&change));
        assert_eq!(found(json!({"spec": {"nodeName": null}})), None);
        assert_eq!(found(json!({"status": {"phase": "Succeeded"}})), None);
        let ending = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Failed"},
        });
        assert!(found(ending).unwrap().is_ending);
        assert!(found(json!({"status": {"phase": "Pending"}})).is_some());
    }
}
