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

/// Starts a pod, and measures.
fn start(pod: &Pod, plugin: &str, times: &mut Times) {
    let before = (kubelet(plugin), ours());
    let pod = pod.create();
    let begun = Instant::now();
    pod.wait_until_ready();
    times.starting.push(begun.elapsed());
    times.mounting.push(between(before.0, kubelet(plugin)));
    if plugin.contains(DRIVER) {
        times.publishing.push(between(before.1, ours()));
    }
    kubectl(&[
        "delete",
        "pod",
        &pod.name,
        "--grace-period=0",
        "--force",
        "--wait=false",
    ])
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
        let (mut empty, mut inline) = (Times::default(), Times::default());
        for number in 0..PODS {
            let pod = Pod::new(&format!("empty-{number}")).empty_dir("site");
            start(&pod, "kubernetes.io/empty-dir", &mut empty);
            let pod = Pod::new(&format!("inline-{number}")).image("site", &image);
            start(&pod, &format!("kubernetes.io/csi:{DRIVER}"), &mut inline);
        }
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
