//! What is done again and again while the plugin serves: the node is looked at, volumes of lost pods and
//! garbage are deleted, and the kubelet's refusal of the plugin is answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::chain;
use super::checks::Needs;
use super::csi::Context;
use super::front::{self, until};
use super::kubernetes::events::Teller;
use super::kubernetes::{Bound, labels};

/// How often volumes of lost pods are looked for, and how long a pod must be missing.
const SWEEP_PAUSE: Duration = Duration::from_secs(300);
const SWEEP_GRACE: Duration = Duration::from_secs(600);
/// Garbage is collected at each so many sweeps: once an hour.
const COLLECT_EVERY: u32 = 12;
/// How long layers of a pull that failed wait for its retry.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);
/// How long the API server may take before the plugin registers without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What upkeep works with.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    pub context: Arc<Context>,
    pub bound: Option<Bound>,
    pub teller: Teller,
}

impl Upkeep {
    /// Sweeps until the plugin ends.
    pub async fn sweep(self, stopped: watch::Receiver<bool>) {
        let mut missing = HashMap::new();
        let mut sweeps = 0_u32;
        let stop = until(stopped);
        tokio::pin!(stop);
        loop {
            let volumes = &self.context.volumes;
            let swept = volumes
                .sweep(&mut missing, SWEEP_GRACE, self.bound.as_ref())
                .await;
            if let Err(error) = swept {
                tracing::warn!(error = %chain(&error), "volumes of lost pods can't be looked for");
            }
            sweeps = (sweeps + 1) % COLLECT_EVERY;
            if sweeps == 0
                && let Err(error) = volumes.collect(UNFINISHED_AGE).await
            {
                tracing::warn!(error = %chain(&error), "garbage stays");
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(SWEEP_PAUSE) => {}
            }
        }
    }

    /// Looks at the node until the plugin ends.
    pub async fn look(self, needs: Needs, stopped: watch::Receiver<bool>) {
        let stop = until(stopped);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(front::LOOK_PAUSE) => {}
            }
            let context = &self.context;
            let needs = needs.clone();
            let found = move || needs.look();
            front::look(&context.readiness, &self.teller, &context.node_name, found).await;
        }
    }

    /// Before the plugin registers: takes off what would make the kubelet refuse it. An API server that
    /// does not answer is not waited for: most nodes have no stale label, and a refusal is answered.
    pub async fn prepare_registration(&self) {
        if tokio::time::timeout(PATIENCE, self.clean_labels())
            .await
            .is_err()
        {
            tracing::warn!("the API server does not answer: stale labels of this node may stay");
        }
    }

    /// Answers each refusal of the kubelet until the plugin ends; the kubelet tries again by itself.
    pub async fn answer_refusals(self, refused: Arc<Notify>, stopped: watch::Receiver<bool>) {
        let stop = until(stopped);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = refused.notified() => self.clean_labels().await,
            }
        }
    }

    async fn clean_labels(&self) {
        let Some(bound) = &self.bound else {
            return;
        };
        let segments: BTreeMap<_, _> = self.context.topology().segments.into_iter().collect();
        let driver = &self.context.driver_name;
        let cluster = &*bound.cluster;
        let removed =
            labels::remove_stale(cluster, &self.teller, driver, &bound.node, &segments).await;
        if let Err(error) = removed {
            tracing::warn!(error = %chain(&error), "stale labels of this node may stay");
        }
    }
}
