//! [`Api`]: a [`Cluster`] over the API server.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolume, Pod};
use k8s_openapi::api::events::v1::Event as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{ListParams, ObjectList, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::events::{About, Event};
use super::users::{self, User};
use super::{ApiServer, Cluster, ClusterError};

/// How long a connection may take to be made, and an answer to come.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// How many objects are asked for at once.
const PAGE: u32 = 250;

/// The API server.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    reporter: Reporter,
}

/// Who tells events.
#[derive(Clone, Debug)]
struct Reporter {
    controller: String,
    instance: String,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

/// The server's own words, which are in one of many forms.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{message} (HTTP {code})")]
    Status { code: u16, message: String },
    #[error(transparent)]
    Other(kube::Error),
}

fn failed(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> ClusterError {
    let doing = doing.into();
    move |error| {
        let refusal = match error {
            kube::Error::Api(status) => Refusal::Status {
                code: status.code,
                message: status.message.clone(),
            },
            other => Refusal::Other(other),
        };
        ClusterError {
            doing,
            source: Box::new(refusal),
        }
    }
}

impl Api {
    /// The API server at an address; connects nothing yet. `reporter` and `instance` stand in events.
    ///
    /// # Errors
    /// When the address is none, or the files can't be read.
    pub fn new(server: &ApiServer, reporter: &str, instance: &str) -> Result<Self, ClusterError> {
        let doing = || format!("prepare to talk to the API server at {}", server.address);
        let address = server.address.parse().map_err(|error| ClusterError {
            doing: doing(),
            source: Box::new(error),
        })?;
        let mut config = kube::Config::new(address);
        config.root_cert_file = Some(server.authorities.clone());
        // Without these the library looks for the system's authorities too, which a pod does not have, and fails.
        config.root_cert = Some(Vec::new());
        config.auth_info.token_file = Some(server.token.display().to_string());
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        config.reset_reader_on_write = true;
        // The library asks for a default among the providers that are compiled in; the first one stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self {
            client: kube::Client::try_from(config).map_err(failed(doing()))?,
            reporter: Reporter {
                controller: reporter.to_owned(),
                instance: cut(instance, 128).to_owned(),
            },
        })
    }

    /// Pods of all namespaces that have volumes of a driver.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn users(&self, driver: &str) -> Result<Vec<User>, ClusterError> {
        let mut claims = HashSet::new();
        let volumes = kube::Api::<PersistentVolume>::all(self.client.clone());
        let mut next = ListParams::default().limit(PAGE);
        loop {
            let page = volumes
                .list(&next)
                .await
                .map_err(failed("list persistent volumes"))?;
            claims.extend(
                page.items
                    .iter()
                    .filter_map(|one| users::claim(driver, one)),
            );
            match following(next, &page) {
                Some(following) => next = following,
                None => break,
            }
        }
        let mut found = Vec::new();
        let pods = kube::Api::<Pod>::all(self.client.clone());
        let mut next = ListParams::default().limit(PAGE);
        loop {
            let page = pods.list(&next).await.map_err(failed("list pods"))?;
            found.extend(
                page.items
                    .iter()
                    .filter_map(|pod| users::user(driver, &claims, pod)),
            );
            match following(next, &page) {
                Some(following) => next = following,
                None => break,
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The parameters for the next page.
fn following<T: Clone>(parameters: ListParams, page: &ObjectList<T>) -> Option<ListParams> {
    let token = page.metadata.continue_.as_deref()?;
    (!token.is_empty()).then(|| parameters.continue_token(token))
}

#[tonic::async_trait]
impl Cluster for Api {
    async fn pods_of(&self, node: &str) -> Result<HashSet<String>, ClusterError> {
        let pods = kube::Api::<Pod>::all(self.client.clone());
        let fields = format!("spec.nodeName={node}");
        let mut next = ListParams::default().fields(&fields).limit(PAGE);
        let mut found = HashSet::new();
        loop {
            // UIDs alone are needed, and pods may be large.
            let page = pods
                .list_metadata(&next)
                .await
                .map_err(failed(format!("list the pods of node {node}")))?;
            found.extend(page.items.iter().filter_map(|pod| pod.metadata.uid.clone()));
            match following(next, &page) {
                Some(following) => next = following,
                None => return Ok(found),
            }
        }
    }

    async fn labels_of(&self, node: &str) -> Result<BTreeMap<String, String>, ClusterError> {
        let found = kube::Api::<Node>::all(self.client.clone())
            .get_metadata(node)
            .await
            .map_err(failed(format!("read the labels of node {node}")))?;
        Ok(found.metadata.labels.unwrap_or_default())
    }

    async fn remove_labels(&self, node: &str, keys: &[String]) -> Result<(), ClusterError> {
        let labels: serde_json::Map<String, Value> =
            keys.iter().map(|key| (key.clone(), Value::Null)).collect();
        let change = json!({ "metadata": { "labels": labels } });
        kube::Api::<Node>::all(self.client.clone())
            .patch_metadata(node, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .map_err(failed(format!("take stale labels off node {node}")))?;
        Ok(())
    }

    async fn tell(&self, event: &Event) -> Result<(), ClusterError> {
        let wire = self.reporter.wire(event);
        let namespace = wire.metadata.namespace.clone().unwrap_or_default();
        kube::Api::<Wire>::namespaced(self.client.clone(), &namespace)
            .create(&PostParams::default(), &wire)
            .await
            .map_err(failed(format!("record the event {}", event.reason)))?;
        Ok(())
    }
}

impl Reporter {
    fn wire(&self, event: &Event) -> Wire {
        let text = |text: &str| Some(text.to_owned());
        let (regarding, namespace, name) = match &event.about {
            About::Pod(pod) => (
                ObjectReference {
                    api_version: text("v1"),
                    kind: text("Pod"),
                    namespace: text(&pod.namespace),
                    name: text(&pod.name),
                    uid: text(&pod.uid),
                    ..ObjectReference::default()
                },
                pod.namespace.as_str(),
                pod.name.as_str(),
            ),
            // As the kubelet does: a node's name is its UID, and its events are in the namespace default.
            About::Node(node) => (
                ObjectReference {
                    api_version: text("v1"),
                    kind: text("Node"),
                    name: text(node),
                    uid: text(node),
                    ..ObjectReference::default()
                },
                "default",
                node.as_str(),
            ),
        };
        Wire {
            metadata: ObjectMeta {
                name: Some(format!("{}.{}", cut(name, 200), unique())),
                namespace: text(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
            action: text(event.action),
            reason: text(event.reason),
            note: text(cut(&event.note, 1024)),
            type_: text(event.kind.as_str()),
            regarding: Some(regarding),
            reporting_controller: text(&self.controller),
            reporting_instance: text(&self.instance),
            ..Wire::default()
        }
    }
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Sixteen digits that no other event has.
fn unique() -> String {
    let mut bytes = [0; 8];
    crate::sys::dir::random_bytes(&mut bytes);
    let mut text = String::new();
    crate::digest::push_hex(&mut text, &bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::kubernetes::events::Kind;
    use crate::node::volume::attributes::Pod as Owner;

    #[test]
    fn an_event_has_what_the_server_demands() {
        let reporter = Reporter {
            controller: "csi.strata.dev".to_owned(),
            instance: "strata-node-1".to_owned(),
        };
        let event = Event {
            about: About::Pod(Owner {
                namespace: "shop".to_owned(),
                name: "web-0".to_owned(),
                uid: "u".to_owned(),
            }),
            kind: Kind::Warning,
            reason: "VolumeRestarted",
            action: "Publish",
            note: "é".repeat(1000),
        };
        let wire = reporter.wire(&event);
        assert_eq!(wire.metadata.namespace.as_deref(), Some("shop"));
        assert!(wire.metadata.name.unwrap().starts_with("web-0."));
        assert_eq!(wire.note.unwrap().len(), 1024);
        assert_eq!(wire.reporting_controller.as_deref(), Some("csi.strata.dev"));
        assert_eq!(wire.reporting_instance.as_deref(), Some("strata-node-1"));
        assert_eq!(wire.type_.as_deref(), Some("Warning"));
        let node = Event {
            about: About::Node("node-1".to_owned()),
            ..event
        };
        let wire = reporter.wire(&node);
        assert_eq!(wire.metadata.namespace.as_deref(), Some("default"));
        let regarding = wire.regarding.unwrap();
        assert_eq!(regarding.uid.as_deref(), Some("node-1"));
        assert_eq!(regarding.namespace, None);
    }
}
