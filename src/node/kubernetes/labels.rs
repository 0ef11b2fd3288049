//! Labels of this node that say which store its volumes are in.
//!
//! The kubelet labels the node with the plugin's topology when it registers the plugin, and refuses to
//! register it when the node has the label with another value: of a store that was here before, since the
//! node was reinstalled or its pool made anew. Every volume on the node would then fail. So a stale label
//! is taken off first.

use std::collections::BTreeMap;

use super::events::{About, Event, Kind, Teller};
use super::{Cluster, ClusterError};

/// Keys of labels that are the driver's and do not say what `segments` say.
pub fn stale(
    driver: &str,
    segments: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Vec<String> {
    let prefix = format!("topology.{driver}/");
    labels
        .iter()
        .filter(|(key, value)| key.starts_with(&prefix) && segments.get(*key) != Some(*value))
        .map(|(key, _)| key.clone())
        .collect()
}

/// Takes stale labels off the node, and tells so; returns how many.
///
/// # Errors
/// When the API server can't be asked, or refuses.
pub async fn remove_stale(
    cluster: &dyn Cluster,
    teller: &Teller,
    driver: &str,
    node: &str,
    segments: &BTreeMap<String, String>,
) -> Result<usize, ClusterError> {
    let labels = cluster.labels_of(node).await?;
    let keys = stale(driver, segments, &labels);
    if keys.is_empty() {
        return Ok(0);
    }
    cluster.remove_labels(node, &keys).await?;
    for key in &keys {
        let value = labels.get(key).map_or("", String::as_str);
        tracing::warn!(key, value, "a stale label was taken off the node");
        teller.tell(Event {
            about: About::Node(node.to_owned()),
            kind: Kind::Warning,
            reason: "StaleTopologyRemoved",
            action: "Register",
            note: format!(
                "the label {key}={value} named a store that is not on this node any more, and was taken \
                 off: volumes of claims that lie in that store can't be reached from here"
            ),
        });
    }
    Ok(keys.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::memory::Memory;
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn a_label_of_another_store_goes_and_is_told() {
        let cluster = Arc::new(Memory::default());
        cluster.state().labels = map(&[
            ("topology.csi.strata.dev/pool-default", "old"),
            ("topology.csi.strata.dev/pool-gone", "x"),
            ("topology.other.dev/pool-default", "theirs"),
            ("kubernetes.io/hostname", "node-1"),
        ]);
        let (teller, told) = Teller::start(Arc::clone(&cluster) as Arc<dyn Cluster>);
        let ours = map(&[("topology.csi.strata.dev/pool-default", "new")]);
        let remove = async || {
            remove_stale(&*cluster, &teller, "csi.strata.dev", "node-1", &ours)
                .await
                .unwrap()
        };
        assert_eq!(remove().await, 2);
        let rest = map(&[
            ("topology.other.dev/pool-default", "theirs"),
            ("kubernetes.io/hostname", "node-1"),
        ]);
        assert_eq!(cluster.state().labels, rest);
        cluster.state().labels.extend(ours.clone());
        assert_eq!(remove().await, 0, "the own label stays");
        drop(teller);
        told.await.unwrap();
        assert_eq!(cluster.state().events.len(), 2);
        cluster.state().is_down = true;
        let teller = Teller::mute();
        let result = remove_stale(&*cluster, &teller, "csi.strata.dev", "node-1", &ours).await;
        assert!(result.is_err());
    }
}
