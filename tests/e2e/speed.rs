//! What a volume costs a pod, beside the cheapest that the kubelet has of its own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::chart::DRIVER;
use super::cluster::{NODE, kubectl};
use super::images::site;
use super::pod::Pod;
use super::stage::play;
use super::support::http;

const PODS: usize = 30;
/// How many of them are ended at a time.
const TOGETHER: usize = 10;
/// How much more the kubelet's mounting may take than for an emptyDir.
const MORE_THAN_EMPTY_DIR: Duration = Duration::from_millis(25);
/// How long our part of it may take.
const OURS: Duration = Duration::from_millis(10);

/// Seconds in a histogram's sum and how many there were, over all lines of this name with all of these labels.
fn total(metrics: &str, name: &str, labels: &[&str]) -> (f64, f64) {
    let sum = |suffix: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}_{suffix}{{")))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    (sum("sum"), sum("count"))
}

/// The kubelet's own times of mounting volumes of this plugin.
fn kubelet(plugin: &str) -> (f64, f64) {
    let path = format!("/api/v1/nodes/{NODE}/proxy/metrics");
    let metrics = kubectl(&["get", "--raw", &path]).ok().text();
    let plugin = format!("volume_plugin=\"{plugin}\"");
    let labels = [
        "operation_name=\"volume_mount\"",
        "status=\"success\"",
        &plugin,
    ];
    total(&metrics, "storage_operation_duration_seconds", &labels)
}

/// Our own times of publishing.
fn ours() -> (f64, f64) {
    let address = SocketAddr::from(([127, 0, 0, 1], 9095));
    let metrics =
        http::request(address, "GET", "/metrics", &[], &[]).expect("the plugin's metrics");
    let labels = ["rpc=\"NodePublishVolume\""];
    total(
        &metrics.text(),
        "strata_operation_duration_seconds",
        &labels,
    )
}

/// The one time that was added between two looks.
fn between(before: (f64, f64), after: (f64, f64)) -> Duration {
    assert!(
        (after.1 - before.1 - 1.0).abs() < 0.1,
        "one mount: {before:?}, {after:?}"
    );
    Duration::from_secs_f64(after.0 - before.0)
}

#[derive(Default)]
struct Times {
    mounting: Vec<Duration>,
    publishing: Vec<Duration>,
    starting: Vec<Duration>,
}

/// Pods with one kind of volume, and what they took.
struct Series {
    name: &'static str,
    plugin: String,
    /// What the kubelet and the plugin had counted when the last pod was ready.
    counted: ((f64, f64), (f64, f64)),
    times: Times,
}

impl Series {
    fn new(name: &'static str, plugin: &str) -> Self {
        Self {
            name,
            plugin: plugin.to_owned(),
            counted: (kubelet(plugin), ours()),
            times: Times::default(),
        }
    }

    /// Starts one more pod, and measures.
    fn start(&mut self, number: usize, with_volume: impl FnOnce(Pod) -> Pod) {
        let pod = with_volume(Pod::new(&format!("{}-{number}", self.name))).create();
        let begun = Instant::now();
        pod.wait_until_ready();
        self.times.starting.push(begun.elapsed());
        let before = std::mem::replace(&mut self.counted, (kubelet(&self.plugin), ours()));
        self.times.mounting.push(between(before.0, self.counted.0));
        if self.plugin.contains(DRIVER) {
            self.times
                .publishing
                .push(between(before.1, self.counted.1));
        }
    }
}

/// Ends pods without waiting for them.
fn end(pods: &[String]) {
    kubectl(&[
        "delete",
        "pods",
        "--grace-period=0",
        "--force",
        "--wait=false",
    ])
    .args(pods)
    .ok();
}

fn quantiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 9 / 10])
}

#[test]
fn an_inline_volume_is_about_as_fast_as_an_empty_dir() {
    play(|| {
        let image = site("speed");
        // Brings the image into the store.
        Pod::new("first").image("site", &image).run().delete();
        let mut empty = Series::new("empty", "kubernetes.io/empty-dir");
        let mut inline = Series::new("inline", &format!("kubernetes.io/csi:{DRIVER}"));
        let mut living = Vec::new();
        for number in 0..PODS {
            empty.start(number, |pod| pod.empty_dir("site"));
            inline.start(number, |pod| pod.image("site", &image));
            living.extend([format!("empty-{number}"), format!("inline-{number}")]);
            if living.len() == TOGETHER {
                end(&std::mem::take(&mut living));
            }
        }
        let (mut empty, mut inline) = (empty.times, inline.times);
        let mut text = format!("speed: {PODS} pods each, in turn; p50 and p90 in milliseconds\n");
        let mut line = |what: &str, times: &mut [Duration]| {
            let (half, most) = quantiles(times);
            let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
            writeln!(
                text,
                "  {what:<44} {:>8.1} {:>8.1}",
                milliseconds(half),
                milliseconds(most)
            )
            .expect("a line");
            half
        };
        let empty_mount = line("kubelet's volume_mount, emptyDir", &mut empty.mounting);
        let inline_mount = line(
            "kubelet's volume_mount, inline volume",
            &mut inline.mounting,
        );
        let published = line("our NodePublishVolume", &mut inline.publishing);
        line("pod created to running, emptyDir", &mut empty.starting);
        line(
            "pod created to running, inline volume",
            &mut inline.starting,
        );
        super::stage::report(&text);
        assert!(inline_mount <= empty_mount + MORE_THAN_EMPTY_DIR, "{text}");
        assert!(published <= OURS, "{text}");
    });
}
