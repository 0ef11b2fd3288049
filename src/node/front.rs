//! [`Front`]: what the plugin shows of itself before its store is open: health over HTTP, and events. A
//! node that lacks something is waited for here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::chain;
use super::checks::{Needs, Problem};
use super::config::Config;
use super::health::{self, Readiness};
use super::kubernetes::api::Api;
use super::kubernetes::events::{About, Event, Kind, Teller};
use super::kubernetes::{Bound, Cluster};
use super::metrics::Metrics;
use super::plugin::{Error, failed};

/// How often the node is looked at.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// What serves before the store is open, and with it.
#[derive(Debug)]
pub struct Front {
    /// Whether calls can be taken.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The cluster and this node's place in it.
    pub(super) bound: Option<Bound>,
    /// Where things are told.
    pub(super) teller: Teller,
    /// Ends once every teller is gone and all is told.
    telling: Option<JoinHandle<()>>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) servers: Vec<JoinHandle<Result<(), Error>>>,
    node: String,
}

impl Front {
    /// Serves health where the configuration says so. Within a runtime.
    ///
    /// # Errors
    /// When its address can't be had.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let mut front = Self {
            readiness: Readiness::default(),
            metrics: Arc::new(Metrics::new()),
            bound: None,
            teller: Teller::mute(),
            telling: None,
            stop,
            servers: Vec::new(),
            node: config.node_name.clone(),
        };
        if let Some(address) = config.http_address {
            let listener = health::listen(address).await?;
            let routes = health::routes(front.readiness.clone(), Arc::clone(&front.metrics));
            front.servers.push(tokio::spawn(async move {
                axum::serve(listener, routes)
                    .with_graceful_shutdown(until(stopped))
                    .await
                    .map_err(|error| failed("health and metrics", error))
            }));
        }
        if let Some(server) = &config.api {
            let instance = format!("strata-{}", config.node_name);
            match Api::new(server, &config.driver_name, &instance) {
                Ok(api) => {
                    let cluster: Arc<dyn Cluster> = Arc::new(api);
                    // The task ends with the runtime at the latest; what it has not told is lost.
                    let (teller, telling) = Teller::start(Arc::clone(&cluster));
                    (front.teller, front.telling) = (teller, Some(telling));
                    front.bound = Some(Bound {
                        cluster,
                        node: config.node_name.clone(),
                    });
                }
                Err(error) => tracing::warn!(
                    error = %chain(&error),
                    "the cluster can't be asked, and is told nothing"
                ),
            }
        }
        Ok(front)
    }

    /// Waits until the node has what volumes need, and then for what `open` opens, with this pause between two looks. What is
    /// lacking stands in the node's readiness and events meanwhile.
    pub(super) async fn wait_for_node<T: Send + 'static>(
        &self,
        needs: &Needs,
        pause: Duration,
        open: impl Fn() -> Result<T, Problem> + Clone + Send + 'static,
    ) -> T {
        loop {
            let (needs, open) = (needs.clone(), open.clone());
            let (give, opened) = oneshot::channel();
            self.look(move || {
                let mut found = needs.look();
                if !found.iter().any(|problem| problem.is_fatal) {
                    match open() {
                        // It is taken below, unless the plugin ends.
                        Ok(opened) => drop(give.send(opened)),
                        Err(problem) => found.push(problem),
                    }
                }
                found
            })
            .await;
            if let Ok(opened) = opened.await {
                return opened;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks at the node, and tells what has changed since.
    pub(super) async fn look(
        &self,
        found: impl FnOnce() -> Vec<Problem> + Send + 'static,
    ) -> Vec<Problem> {
        look(&self.readiness, &self.teller, &self.node, found).await
    }

    /// Serves no more, and waits until what was told has reached the cluster, but no longer than this.
    pub(super) async fn finish(self, patience: Duration) {
        self.stop.send_replace(true);
        drop(self.teller);
        if let Some(telling) = self.telling
            && tokio::time::timeout(patience, telling).await.is_err()
        {
            tracing::warn!("the API server does not answer: events are lost");
        }
    }
}

/// Looks at the node, and tells what has changed since the last time, or what it has lacked for long.
pub(super) async fn look(
    readiness: &Readiness,
    teller: &Teller,
    node: &str,
    found: impl FnOnce() -> Vec<Problem> + Send + 'static,
) -> Vec<Problem> {
    // A thread of its own: the pool may be on a disk that hangs, and no lane may hang with it.
    let Ok(found) = tokio::task::spawn_blocking(found).await else {
        return Vec::new();
    };
    tell(readiness, teller, node, &found);
    found
}

fn tell(readiness: &Readiness, teller: &Teller, node: &str, found: &[Problem]) {
    if !readiness.set_problems(found.to_vec(), Instant::now()) {
        return;
    }
    let (kind, reason, note) = match readiness.check_lacks() {
        Err(lack) => {
            tracing::warn!("{lack}");
            (Kind::Warning, "StrataNotReady", lack.to_string())
        }
        Ok(()) => {
            tracing::info!("this node has what volumes need");
            let note = "this node has what volumes need";
            (Kind::Normal, "StrataReady", note.to_owned())
        }
    };
    teller.tell(Event {
        about: About::Node(node.to_owned()),
        kind,
        reason,
        action: "Check",
        note,
    });
}

/// Ends when the plugin does.
pub(super) async fn until(mut stopped: watch::Receiver<bool>) {
    // An error says that the plugin is gone, which is an end too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::kubernetes::memory::Memory;
    use super::*;

    fn problem(what: &str) -> Problem {
        Problem {
            what: what.to_owned(),
            remedy: "make room",
            is_fatal: false,
        }
    }

    #[tokio::test]
    async fn what_can_not_be_opened_is_named_and_waited_for() {
        let front = Front::open(&Config::new(
            "node-1",
            "/var/lib/kubelet",
            "unix:///csi.sock",
        ))
        .await
        .unwrap();
        let needs = Needs {
            graph: "/".into(),
            shared: Vec::new(),
            is_overlay: false,
        };
        let readiness = front.readiness.clone();
        let tries = Arc::new(AtomicU32::new(0));
        let open = move || match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Problem {
                is_fatal: true,
                ..problem("the store is broken")
            }),
            _ => {
                let lacking = readiness.check_node().unwrap_err().to_string();
                Ok((tries.load(Ordering::SeqCst), lacking))
            }
        };
        let (tries, lacking) = front
            .wait_for_node(&needs, Duration::from_millis(1), open)
            .await;
        assert_eq!(tries, 2);
        assert!(lacking.contains("the store is broken; make room"));
        assert!(front.readiness.check_node().is_ok(), "it is open now");
    }

    #[tokio::test]
    async fn a_change_is_told_once() {
        let cluster = Arc::new(Memory::default());
        let (teller, done) = Teller::start(Arc::clone(&cluster) as Arc<dyn Cluster>);
        let readiness = Readiness::default();
        readiness.open();
        for found in [
            vec![],
            vec![problem("1 MB are free")],
            vec![problem("2 MB are free")],
            vec![],
        ] {
            tell(&readiness, &teller, "node-1", &found);
            assert_eq!(readiness.is_ready(), found.is_empty());
        }
        drop(teller);
        done.await.unwrap();
        let told: Vec<_> = cluster
            .state()
            .events
            .iter()
            .map(|event| {
                (
                    event.reason,
                    event.note.contains("1 MB are free; make room"),
                )
            })
            .collect();
        assert_eq!(told, [("StrataNotReady", true), ("StrataReady", false)]);
    }
}
