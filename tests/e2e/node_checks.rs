//! A node that lacks what volumes need says so in the plugin's readiness and in the node's events, before any pod asks.

use std::net::SocketAddr;

use super::chart;
use super::cluster::{NODE, list, script, wait_for};
use super::stage::play;
use super::support::http;

#[test]
fn a_pool_on_an_overlay_is_named() {
    play(|| {
        script(
            "mkdir -p $RUN/on-overlay/{lower,upper,work,merged}
             mount -t overlay -o lowerdir=$RUN/on-overlay/lower,upperdir=$RUN/on-overlay/upper,workdir=$RUN/on-overlay/work \
                overlay $RUN/on-overlay/merged",
        );
        let pool = super::cluster::folder().join("on-overlay/merged/pool");
        let pool = format!("pool.path={}", pool.display());
        chart::deploy(&["--set", &pool]).ok();
        let ready = SocketAddr::from(([127, 0, 0, 1], 9095));
        let said = wait_for("the plugin to say that it is not ready", || {
            let answer = http::request(ready, "GET", "/readyz", &[], &[]).ok()?;
            (answer.status == 503 && answer.text().contains("overlay")).then(|| answer.text())
        });
        println!("readyz: {said}");
        let event = wait_for("an event of the node", || {
            list(&[
                "events",
                "--all-namespaces",
                "--field-selector",
                "involvedObject.kind=Node",
            ])
            .iter()
            .filter(|event| event["involvedObject"]["name"] == NODE)
            .filter_map(|event| event["message"].as_str().map(str::to_owned))
            .find(|message| {
                message.contains("on-overlay") && message.contains("lies on an overlay")
            })
        });
        println!("event: {event}");
        chart::deploy(&[]).ok();
        chart::wait_until_ready();
        script("umount $RUN/on-overlay/merged; rm -rf $RUN/on-overlay");
    });
}
