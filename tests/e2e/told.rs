//! What people are told who only look at a pod or a node: events beyond those of failures.

use super::chart::{self, NAMESPACE, RELEASE};
use super::cluster::{self, NODE, kubectl, wait_for};
use super::events;
use super::images::site;
use super::pod::Pod;
use super::stage::play;

#[test]
fn a_pod_is_told_how_its_image_was_pulled() {
    play(|| {
        let image = site("told");
        let pod = Pod::new("told").image("site", &image).run();
        let object = pod.object();
        let begun = events::first(&object, "VolumeImagePulling");
        assert!(begun.contains(&image), "{begun}");
        let ended = events::first(&object, "VolumeImagePulled");
        println!("{ended}");
        assert!(
            ended.contains(&image) && ended.contains("B in ") && ended.ends_with(" s"),
            "{ended}"
        );
        // A second pod finds it there, and nothing is told.
        let second = Pod::new("told-again").image("site", &image).run();
        events::assert_nothing_pulled(&second);
    });
}

#[test]
fn a_label_of_a_store_that_is_gone_is_taken_off_before_the_kubelet_sees_it() {
    play(|| {
        let key = format!("topology.{}/pool-default", chart::DRIVER);
        let labels = || cluster::get(&["node", NODE])["metadata"]["labels"].clone();
        let store = labels()[&key].as_str().expect("a label").to_owned();
        let stale = format!("{key}=00000000000000000000000000000000");
        let watch = events::NodeWatch::begin();
        kubectl(&["label", "node", NODE, "--overwrite", &stale]).ok();
        let daemons = format!("daemonset/{RELEASE}");
        kubectl(&["rollout", "restart", &daemons, "--namespace", NAMESPACE]).ok();
        chart::wait_until_ready();
        wait_for("the label of the store that is there", || {
            (labels()[&key] == store.as_str()).then_some(())
        });
        watch.wait_for("StaleTopologyRemoved", &[&stale]);
        assert_eq!(chart::plugin_restarts(), 0);
    });
}
