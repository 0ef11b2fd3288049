//! Every metric: name, labels, meaning.
//!
//! | Name | Labels | Meaning |
//! |---|---|---|
//! | `strata_operations_total` | `rpc`, `code` | calls answered |
//! | `strata_operation_duration_seconds` | `rpc` | how long they took |
//! | `strata_operations_in_flight` | `rpc` | calls being worked on |
//! | `strata_volumes` | `lifecycle` | volumes in the store |
//! | `strata_targets` | | places where volumes are published |
//! | `strata_pulls_total` | `outcome` | pulls ended: `done`, `failed` |
//! | `strata_pulls_in_flight` | | pulls under way |
//! | `strata_pulled_bytes_total` | `from` | bytes that pulls brought: fetched from a `registry`, or files of an additional store, `copied` or `shared` with it |
//! | `strata_lane_waiting` | `lane` | operations that wait for a thread of the lane; `pulls`: those that wait for other pulls |
//! | `strata_build_info` | `version` | always 1 |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::lanes::Lanes;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RpcLabels {
    rpc: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    rpc: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FromLabels {
    from: &'static str,
}

/// What a pull brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PulledBytes {
    /// Fetched from a registry.
    pub fetched: u64,
    /// Files that share their blocks with those of an additional store.
    pub shared: u64,
    /// Files that were copied from an additional store.
    pub copied: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LifecycleLabels {
    lifecycle: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: Family<AnswerLabels, Counter>,
    durations: Family<RpcLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<RpcLabels, Gauge>,
    calls: Arc<AtomicUsize>,
    volumes: Family<LifecycleLabels, Gauge>,
    targets: Gauge,
    pulls: Family<OutcomeLabels, Counter>,
    pulls_in_flight: Gauge,
    pulled_bytes: Family<FromLabels, Counter>,
    waiting: Family<LaneLabels, Gauge>,
    lanes: std::sync::OnceLock<Lanes>,
    waiting_pulls: std::sync::OnceLock<Arc<AtomicUsize>>,
}

/// A call that is being worked on.
#[derive(Debug)]
#[must_use]
pub struct InFlight {
    rpc: &'static str,
    gauge: Gauge,
    calls: Arc<AtomicUsize>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
        self.gauge.dec();
    }
}

fn durations() -> Histogram {
    // 0.5 ms to 262 s: a publish of a present image at one end, a pull at the other.
    Histogram::new(exponential_buckets(0.0005, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("strata"),
            operations: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Family::default(),
            calls: Arc::default(),
            volumes: Family::default(),
            targets: Gauge::default(),
            pulls: Family::default(),
            pulls_in_flight: Gauge::default(),
            pulled_bytes: Family::default(),
            waiting: Family::default(),
            lanes: std::sync::OnceLock::new(),
            waiting_pulls: std::sync::OnceLock::new(),
        };
        let registry = &mut metrics.registry;
        registry.register("operations", "Calls answered", metrics.operations.clone());
        registry.register(
            "operation_duration_seconds",
            "How long calls took",
            metrics.durations.clone(),
        );
        registry.register(
            "operations_in_flight",
            "Calls being worked on",
            metrics.in_flight.clone(),
        );
        registry.register("volumes", "Volumes in the store", metrics.volumes.clone());
        registry.register(
            "targets",
            "Places where volumes are published",
            metrics.targets.clone(),
        );
        registry.register("pulls", "Pulls ended", metrics.pulls.clone());
        registry.register(
            "pulls_in_flight",
            "Pulls under way",
            metrics.pulls_in_flight.clone(),
        );
        registry.register(
            "pulled_bytes",
            "Bytes that pulls brought",
            metrics.pulled_bytes.clone(),
        );
        registry.register(
            "lane_waiting",
            "Operations that wait for a thread of the lane, or pulls for other pulls",
            metrics.waiting.clone(),
        );
        let build: Family<BuildLabels, Gauge> = Family::default();
        build
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register("build_info", "The version that runs", build);
        metrics
    }

    /// Shows these lanes too.
    pub fn watch_lanes(&self, lanes: Lanes) {
        // The lanes of a plugin are made once.
        drop(self.lanes.set(lanes));
    }

    /// Shows how many pulls wait for others, by this count.
    pub fn watch_pulls(&self, waiting: Arc<AtomicUsize>) {
        // The puller of a plugin is made once.
        drop(self.waiting_pulls.set(waiting));
    }

    /// A call begins.
    pub fn start(&self, rpc: &'static str) -> InFlight {
        let gauge = self.in_flight.get_or_create(&RpcLabels { rpc }).clone();
        gauge.inc();
        self.calls.fetch_add(1, Ordering::AcqRel);
        let calls = Arc::clone(&self.calls);
        InFlight { rpc, gauge, calls }
    }

    /// A call ends with this code.
    pub fn finish(&self, call: InFlight, code: &'static str, took: Duration) {
        let rpc = call.rpc;
        drop(call);
        self.operations
            .get_or_create(&AnswerLabels { rpc, code })
            .inc();
        self.durations
            .get_or_create(&RpcLabels { rpc })
            .observe(took.as_secs_f64());
    }

    /// How many calls are being worked on.
    pub fn all_calls_in_flight(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// A volume came (`change` 1) or went (-1).
    pub fn count_volume(&self, lifecycle: &'static str, change: i64) {
        self.volumes
            .get_or_create(&LifecycleLabels { lifecycle })
            .inc_by(change);
    }

    /// There are so many targets now.
    pub fn set_targets(&self, targets: usize) {
        self.targets.set(i64::try_from(targets).unwrap_or(i64::MAX));
    }

    /// A pull begins.
    pub fn pull_started(&self) {
        self.pulls_in_flight.inc();
    }

    /// A pull ends.
    pub fn pull_ended(&self, outcome: &'static str, bytes: &PulledBytes) {
        self.pulls_in_flight.dec();
        for (from, bytes) in [
            ("registry", bytes.fetched),
            ("copied", bytes.copied),
            ("shared", bytes.shared),
        ] {
            self.pulled_bytes
                .get_or_create(&FromLabels { from })
                .inc_by(bytes);
        }
        self.pulls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Everything in the text form that Prometheus reads.
    pub fn text(&self) -> String {
        let lanes = self.lanes.get().into_iter().flat_map(Lanes::all);
        let lanes = lanes.map(|lane| (lane.name(), lane.waiting()));
        let pulls = self.waiting_pulls.get();
        let pulls = pulls.map(|waiting| ("pulls", waiting.load(Ordering::Relaxed)));
        for (lane, waiting) in lanes.chain(pulls) {
            let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
            self.waiting
                .get_or_create(&LaneLabels { lane })
                .set(waiting);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String can't fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_of_the_table() {
        let metrics = Metrics::new();
        let call = metrics.start("Probe");
        assert_eq!(metrics.all_calls_in_flight(), 1);
        metrics.finish(call, "OK", Duration::from_millis(3));
        assert_eq!(metrics.all_calls_in_flight(), 0);
        metrics.count_volume("ephemeral", 1);
        metrics.set_targets(2);
        metrics.pull_started();
        metrics.pull_ended(
            "done",
            &PulledBytes {
                fetched: 7,
                ..PulledBytes::default()
            },
        );
        metrics.watch_lanes(Lanes::new(super::super::lanes::Limits::default()));
        metrics.watch_pulls(Arc::new(AtomicUsize::new(3)));
        let text = metrics.text();
        for line in [
            r#"strata_operations_total{rpc="Probe",code="OK"} 1"#,
            r#"strata_operation_duration_seconds_count{rpc="Probe"} 1"#,
            r#"strata_operations_in_flight{rpc="Probe"} 0"#,
            r#"strata_volumes{lifecycle="ephemeral"} 1"#,
            "strata_targets 2",
            r#"strata_pulls_total{outcome="done"} 1"#,
            "strata_pulls_in_flight 0",
            r#"strata_pulled_bytes_total{from="registry"} 7"#,
            r#"strata_lane_waiting{lane="mounts"} 0"#,
            r#"strata_lane_waiting{lane="pulls"} 3"#,
            "strata_build_info{version=",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
