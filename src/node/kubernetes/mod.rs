//! The little that the plugin asks of the Kubernetes API, and tells it. Everything works without one:
//! what needs an answer is then not done, and what is told is in the log as well.
//!
//! | File | What |
//! |---|---|
//! | [`api`] | [`Cluster`] over the API server: the only code that names `kube` |
//! | [`events`] | which events are told, and the queue that tells them |
//! | [`labels`] | a label of this node that names a store which is gone |
//! | [`users`] | which pods have volumes of a driver |

pub mod api;
pub mod events;
pub mod labels;
pub mod users;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use events::Event;

/// Where the API server is, and how to log in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Its address, as `https://10.96.0.1:443`.
    pub address: String,
    /// File with the authorities that its certificate is checked with.
    pub authorities: PathBuf,
    /// File with the token of the plugin's service account; read again when it changes.
    pub token: PathBuf,
}

/// The API server can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct ClusterError {
    /// What was being done.
    pub doing: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What the plugin asks of a cluster.
#[tonic::async_trait]
pub trait Cluster: fmt::Debug + Send + Sync {
    /// UIDs of the pods that are bound to a node.
    ///
    /// # Errors
    /// When the API server does not say.
    async fn pods_of(&self, node: &str) -> Result<HashSet<String>, ClusterError>;

    /// Labels of a node.
    ///
    /// # Errors
    /// When the API server does not say.
    async fn labels_of(&self, node: &str) -> Result<BTreeMap<String, String>, ClusterError>;

    /// Takes labels off a node.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn remove_labels(&self, node: &str, keys: &[String]) -> Result<(), ClusterError>;

    /// Records an event.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn tell(&self, event: &Event) -> Result<(), ClusterError>;
}

/// A cluster, and which node of it this is.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// This node.
    pub node: String,
}

impl Bound {
    /// UIDs of this node's pods.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn pods(&self) -> Result<HashSet<String>, ClusterError> {
        self.cluster.pods_of(&self.node).await
    }
}

/// A cluster in memory, for tests.
#[cfg(test)]
pub mod memory {
    use std::sync::{Mutex, MutexGuard};

    use super::{BTreeMap, Cluster, ClusterError, Event, HashSet};

    /// What such a cluster has.
    #[derive(Debug, Default)]
    pub struct State {
        /// UIDs of pods.
        pub pods: HashSet<String>,
        /// Labels of the node.
        pub labels: BTreeMap<String, String>,
        /// What was told.
        pub events: Vec<Event>,
        /// Nobody answers.
        pub is_down: bool,
    }

    /// A cluster in memory.
    #[derive(Debug, Default)]
    pub struct Memory(Mutex<State>);

    impl Memory {
        /// What it has now.
        pub fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        fn up(&self) -> Result<MutexGuard<'_, State>, ClusterError> {
            let state = self.state();
            if state.is_down {
                return Err(ClusterError {
                    doing: "ask the API server".to_owned(),
                    source: "nobody answers".into(),
                });
            }
            Ok(state)
        }
    }

    #[tonic::async_trait]
    impl Cluster for Memory {
        async fn pods_of(&self, _: &str) -> Result<HashSet<String>, ClusterError> {
            Ok(self.up()?.pods.clone())
        }

        async fn labels_of(&self, _: &str) -> Result<BTreeMap<String, String>, ClusterError> {
            Ok(self.up()?.labels.clone())
        }

        async fn remove_labels(&self, _: &str, keys: &[String]) -> Result<(), ClusterError> {
            self.up()?.labels.retain(|key, _| !keys.contains(key));
            Ok(())
        }

        async fn tell(&self, event: &Event) -> Result<(), ClusterError> {
            self.up()?.events.push(event.clone());
            Ok(())
        }
    }
}
