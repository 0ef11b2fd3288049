//! Another tool holds a lock of the store, and as many calls wait for it as may: whoever needs no lock is
//! answered all the same.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use strata::node::csi::wire::node_client::NodeClient;
use strata::node::csi::wire::volume_capability::access_mode::Mode;
use strata::sys::Dir;
use strata::sys::record_lock::{Access, RecordLock};

use super::node::Node;
use crate::support::http;
use crate::support::plugin::{self, Wish, inline_handle};
use crate::support::scratch::mounts_below;

/// More than the plugin has threads that may wait for locks.
const CALLS: usize = 40;
/// No answer that needs no lock may take so long; those that do would take for ever.
const SOON: Duration = Duration::from_secs(20);

impl Node {
    fn wish(&self, pod: &str) -> Wish {
        let target = self.settings.target(pod, "data");
        Wish::inline(&inline_handle(pod), &target, None)
    }

    /// The part of `/metrics` about a lane.
    fn waiting(&self, lane: &str) -> usize {
        let name = format!("strata_lane_waiting{{lane=\"{lane}\"}} ");
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(&*name));
        line.expect("the metric is there").parse().unwrap()
    }

    fn get(&self, path: &str) -> String {
        let answer = http::request(self.plugin.http, "GET", path, &[], &[]).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }
}

/// Does `work` and fails when that takes long.
#[track_caller]
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    assert!(took < SOON, "{what} took {took:?}");
    result
}

#[test]
fn who_needs_no_lock_waits_for_none() {
    let node = Node::new("lanes");
    let mut kept = node.wish("kept");
    kept.mode = Mode::SingleNodeMultiWriter;
    node.kubelet.publish(&kept).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for (number, lock) in [
        "overlay-layers/layers.lock",
        "overlay-containers/containers.lock",
    ]
    .into_iter()
    .enumerate()
    {
        let second: PathBuf = node.settings.target(&format!("second-{number}"), "data");
        let other = Wish {
            target: second.clone(),
            ..kept.clone()
        };
        node.kubelet.publish(&other).unwrap();
        let file = node.settings.graph.join(lock);
        let folder = Dir::open(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap();
        let held = RecordLock::acquire(&folder, name, Access::Exclusive).unwrap();
        // Held no longer than it takes to tell that somebody waits for it who should not.
        let (release, released) = mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            released.recv_timeout(SOON * 6).ok();
            drop(held);
        });

        let calls: Vec<_> = (0..CALLS)
            .map(|call| {
                let wish = node.wish(&format!("waiting-{number}-{call}"));
                let socket = node.settings.socket.clone();
                runtime.spawn(async move {
                    let mut client = NodeClient::new(plugin::channel(&socket));
                    let request = wish.request();
                    client.node_publish_volume(request).await.map(|_| wish)
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        while node.waiting("records") == 0 {
            assert!(Instant::now() < deadline, "nobody waits for {lock}");
            std::thread::sleep(Duration::from_millis(5));
        }

        soon("statistics", || {
            let usage = node.kubelet.stats(&kept.volume, &kept.target).unwrap();
            assert_eq!(usage.usage.len(), 2);
        });
        assert!(soon("a probe", || node.kubelet.probe().unwrap()));
        soon("what the plugin is", || node.kubelet.info().unwrap());
        for path in ["/healthz", "/readyz", "/metrics"] {
            soon(path, || node.get(path));
        }
        // A target that is not the volume's last goes without a look at any record.
        soon("an unpublish", || {
            node.kubelet.unpublish(&kept.volume, &second).unwrap();
        });
        assert!(!second.exists());
        assert!(
            calls.iter().all(|call| !call.is_finished()),
            "the lock is held still"
        );

        drop(release);
        holder.join().unwrap();
        for call in calls {
            let wish = runtime.block_on(call).unwrap().unwrap();
            assert!(!mounts_below(&wish.target).is_empty());
            node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        }
        assert_eq!(node.waiting("records"), 0);
    }
    node.kubelet.unpublish(&kept.volume, &kept.target).unwrap();
    assert!(mounts_below(node.scratch.path()).is_empty());
    assert_eq!(node.plugin.stop(), 0);
}
