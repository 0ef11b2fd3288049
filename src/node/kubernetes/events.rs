//! Events in the cluster: what users and operators are told where they look, at the pod and at the node.
//!
//! | Reason | About | When |
//! |---|---|---|
//! | `VolumeImagePulling` | pod | the image of its volume is not on the node and is fetched |
//! | `VolumeImagePulled` | pod | it is there; how large it was and how long it took |
//! | `VolumeImagePullFailed` | pod | it can't be had, and what helps |
//! | `VolumeStartedAnew` | pod | the volume's files are of an earlier boot and may be torn |
//! | `VolumeKept` | pod | they are of an earlier boot, and whole |
//! | `StrataNotReady` | node | the node lacks something, and what helps |
//! | `StrataReady` | node | it has it now |
//! | `StaleTopologyRemoved` | node | a label that named a store which is gone was taken off |
//!
//! What fails a call is told by the kubelet (`FailedMount`) and by csi-provisioner (`ProvisioningFailed`).
//! Telling never waits and never fails: a queue in memory, whose rest is lost with the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Cluster;
use crate::node::chain;
use crate::node::events;
use crate::node::volume::attributes::Pod;

/// How many events may wait for the API server.
const QUEUE: usize = 256;
/// For how long the same event is not told again.
const QUIET: Duration = Duration::from_secs(300);
/// How often an event is tried, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A pod.
    Pod(Pod),
    /// A node, by its name.
    Node(String),
}

/// How an event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For information.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Kind {
    /// The word that Kubernetes has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub about: About,
    /// How it is meant.
    pub kind: Kind,
    /// Why it is told: one word, by which it is found.
    pub reason: &'static str,
    /// What was being done: one word.
    pub action: &'static str,
    /// The whole of it, for people.
    pub note: String,
}

/// Tells a cluster, where there is one; a clone tells the same.
#[derive(Clone, Debug, Default)]
pub struct Teller(Option<mpsc::Sender<Event>>);

impl Teller {
    /// Tells nobody.
    pub fn mute() -> Self {
        Self(None)
    }

    /// Tells a cluster, by a task that ends when the last clone is dropped.
    pub fn start(cluster: Arc<dyn Cluster>) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(Some(sender)), tokio::spawn(pass_on(cluster, receiver)))
    }

    /// Tells an event, unless too many wait.
    pub fn tell(&self, event: Event) {
        if let Some(sender) = &self.0
            && let Err(error) = sender.try_send(event)
        {
            tracing::debug!(%error, "an event is not told");
        }
    }
}

impl events::Events for Teller {
    fn report(&self, event: &events::Event<'_>) {
        events::Events::report(&events::Log, event);
        // The volume of a claim has no pod, and the kubelet may have told none.
        let Some(pod) = event
            .pod
            .filter(|pod| !pod.name.is_empty() && !pod.namespace.is_empty())
        else {
            return;
        };
        self.tell(Event {
            about: About::Pod(pod.clone()),
            kind: if event.is_warning {
                Kind::Warning
            } else {
                Kind::Normal
            },
            reason: event.reason,
            action: "Publish",
            note: event.message.to_owned(),
        });
    }
}

async fn pass_on(cluster: Arc<dyn Cluster>, mut receiver: mpsc::Receiver<Event>) {
    let mut told: VecDeque<(Instant, Event)> = VecDeque::new();
    while let Some(event) = receiver.recv().await {
        while told
            .front()
            .is_some_and(|(when, _)| when.elapsed() >= QUIET || told.len() > QUEUE)
        {
            told.pop_front();
        }
        if told.iter().any(|(_, other)| *other == event) {
            continue;
        }
        for attempt in 1..=ATTEMPTS {
            match cluster.tell(&event).await {
                Ok(()) => {
                    told.push_back((Instant::now(), event));
                    break;
                }
                Err(error) if attempt == ATTEMPTS => {
                    tracing::warn!(error = %chain(&error), note = event.note, "an event is lost");
                }
                Err(_) => tokio::time::sleep(PAUSE * attempt).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use events::Events as _;

    use super::super::memory::Memory;
    use super::*;

    fn pod() -> Pod {
        Pod {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            uid: "u".to_owned(),
        }
    }

    fn report(teller: &Teller, pod: Option<&Pod>, message: &str) {
        teller.report(&events::Event {
            reason: events::KEPT,
            is_warning: false,
            volume: "csi-1",
            pod,
            message,
        });
    }

    #[tokio::test]
    async fn the_same_event_is_told_once() {
        let cluster = Arc::new(Memory::default());
        let (teller, done) = Teller::start(Arc::clone(&cluster) as Arc<dyn Cluster>);
        for message in ["one", "one", "two"] {
            report(&teller, Some(&pod()), message);
        }
        report(&teller, None, "nobody's");
        report(&teller, Some(&Pod::default()), "of no name");
        drop(teller);
        done.await.unwrap();
        let told: Vec<_> = cluster
            .state()
            .events
            .iter()
            .map(|event| event.note.clone())
            .collect();
        assert_eq!(told, ["one", "two"]);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_server_that_is_down() {
        let cluster = Arc::new(Memory::default());
        cluster.state().is_down = true;
        let (teller, task) = Teller::start(Arc::clone(&cluster) as Arc<dyn Cluster>);
        let start = Instant::now();
        for number in 0..2 * QUEUE {
            report(&teller, Some(&pod()), &number.to_string());
        }
        assert!(start.elapsed() < PAUSE);
        task.abort();
        assert!(cluster.state().events.is_empty());
        report(&Teller::mute(), Some(&pod()), "to nobody");
    }
}
