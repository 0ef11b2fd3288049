//! Publish and unpublish over gRPC against the floor; many clients at once; the plugin at rest.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strata::node::csi::wire;
use strata::node::csi::wire::node_client::NodeClient;
use tonic::transport::Channel;

use super::floor::Floor;
use super::numbers::{Promise, Samples, Table};
use super::support::image;
use super::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use super::support::scratch::Scratch;
use super::support::tool::Tool;
use super::{Extent, binary};

const IMAGE: &str = "localhost/bench/image:one";

pub fn measure(extent: Extent, table: &mut Table) {
    let scratch = Scratch::new("bench");
    let settings = Settings::below(scratch.path(), &binary());
    let layout = scratch.path().join("layout");
    image::write_busybox_layout(&layout, "one");
    Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .args(["pull", "--quiet"])
        .arg(format!("oci:{}:one", layout.display()))
        .ok();
    let id = Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .args(["images", "--json"])
        .ok()
        .json()[0]["id"]
        .as_str()
        .expect("the image has an ID")
        .to_owned();
    Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .args(["add-names", "--name", IMAGE, &id])
        .ok();
    let floor = Floor::new(&scratch.dir("floor"), &layer_directories(&settings));

    let plugin = Plugin::start(&settings);
    std::thread::sleep(Duration::from_secs(1));
    let process = plugin.process();
    table.add(
        "plugin at rest, no volumes",
        "MiB resident",
        resident(process),
        None,
        Promise::Below(24.0),
    );
    compare(extent, &settings, &floor, 0, table);
    rates(extent, &settings, 0, table);

    let runtime = runtime();
    runtime.block_on(async {
        let channel = plugin::channel(&settings.socket);
        let lanes: Vec<_> = (0..32)
            .map(|lane| {
                let wishes: Vec<_> = (lane..extent.volumes)
                    .step_by(32)
                    .map(|n| wish(&settings, &format!("standing-{n}")))
                    .collect();
                let channel = channel.clone();
                tokio::spawn(async move {
                    for wish in wishes {
                        publish(channel.clone(), &wish).await;
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.await.unwrap();
        }
    });
    let volumes = extent.volumes;
    std::thread::sleep(Duration::from_secs(1));
    table.add(
        format!("plugin at rest, {volumes} volumes"),
        "MiB resident",
        resident(process),
        None,
        Promise::Below(24.0),
    );
    compare(extent, &settings, &floor, volumes, table);
    rates(extent, &settings, volumes, table);

    let settings = plugin.kill();
    let mut ready = Samples::default();
    for _ in 0..5 {
        let plugin = ready.time(|| Plugin::start(&settings));
        plugin.kill();
    }
    table.add(
        format!("killed plugin started again and ready, {volumes} volumes"),
        "ms",
        ready.median(),
        None,
        Promise::Below(300.0),
    );
}

/// The diff directories of the only image, nearest first: what the floor mounts.
fn layer_directories(settings: &Settings) -> Vec<PathBuf> {
    let text = fs::read_to_string(settings.graph.join("overlay-layers/layers.json")).unwrap();
    let layers: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = layers.as_array().unwrap();
    let mut chain = Vec::new();
    let mut parent = "";
    while let Some(layer) = layers
        .iter()
        .find(|layer| layer["parent"].as_str().unwrap_or_default() == parent)
    {
        parent = layer["id"].as_str().unwrap();
        chain.push(settings.graph.join("overlay").join(parent).join("diff"));
    }
    chain.reverse();
    chain
}

fn record_sizes(settings: &Settings) -> [usize; 2] {
    ["layers", "containers"].map(|kind| {
        let file = format!("overlay-{kind}/{kind}.json");
        fs::metadata(settings.graph.join(file)).map_or(2, |data| data.len() as usize)
    })
}

fn wish(settings: &Settings, seed: &str) -> Wish {
    Wish::inline(
        &inline_handle(seed),
        &settings.target(seed, "data"),
        Some(IMAGE),
    )
    .with("pullPolicy", "Never")
}

/// One client, one call at a time, each beside the same by bare calls.
fn compare(extent: Extent, settings: &Settings, floor: &Floor, volumes: usize, table: &mut Table) {
    let kubelet = Kubelet::connect(&settings.socket);
    let mut samples = [(); 4].map(|()| Samples::default());
    let mut sizes = record_sizes(settings);
    for n in 0..extent.pairs + 5 {
        let wish = wish(settings, &format!("pair-{n}"));
        let [ours_in, ours_out, floor_in, floor_out] = &mut samples;
        let mut ours = |sizes: &mut [usize; 2]| {
            ours_in.time(|| kubelet.publish(&wish)).unwrap();
            *sizes = record_sizes(settings);
            assert!(
                wish.target.join("data/added").is_file(),
                "the volume is the image"
            );
            ours_out
                .time(|| kubelet.unpublish(&wish.volume, &wish.target))
                .unwrap();
            assert!(!wish.target.exists(), "the target is gone");
        };
        let mut bare = |sizes: [usize; 2]| {
            floor_in.time(|| floor.publish(n, sizes));
            floor_out.time(|| floor.unpublish(n, sizes));
        };
        if n % 2 == 0 {
            ours(&mut sizes);
            bare(sizes);
        } else {
            bare(sizes);
            ours(&mut sizes);
        }
        if n == 4 {
            // The first ones warm both up.
            samples = [(); 4].map(|()| Samples::default());
        }
    }
    let [ours_in, ours_out, floor_in, floor_out] = &samples;
    for (what, ours, floor) in [
        ("publish", ours_in, floor_in),
        ("unpublish", ours_out, floor_out),
    ] {
        for percent in [50, 99] {
            table.add(
                format!("{what}, {volumes} volumes, p{percent}"),
                "ms",
                ours.percentile(percent),
                Some(("bare calls", floor.percentile(percent))),
                Promise::AtMost(3.0),
            );
        }
    }
}

/// Publishes and unpublishes a second, by one client and by 32.
fn rates(extent: Extent, settings: &Settings, volumes: usize, table: &mut Table) {
    let one = rate(extent, settings, 1);
    let many = rate(extent, settings, 32);
    table.add(
        format!("32 clients against one, {volumes} volumes"),
        "pairs/s",
        many,
        Some(("one client", one)),
        Promise::AtLeast(2.0),
    );
}

fn rate(extent: Extent, settings: &Settings, clients: usize) -> f64 {
    let wishes: Vec<_> = (0..clients)
        .map(|client| wish(settings, &format!("client-{client}")))
        .collect();
    runtime().block_on(async {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(extent.seconds);
        let tasks: Vec<_> = wishes
            .into_iter()
            .map(|wish| {
                let channel = plugin::channel(&settings.socket);
                tokio::spawn(async move {
                    let mut pairs = 0_u32;
                    while Instant::now() < deadline {
                        publish(channel.clone(), &wish).await;
                        unpublish(channel.clone(), &wish).await;
                        pairs += 1;
                    }
                    pairs
                })
            })
            .collect();
        let mut pairs = 0;
        for task in tasks {
            pairs += task.await.unwrap();
        }
        f64::from(pairs) / start.elapsed().as_secs_f64()
    })
}

async fn publish(channel: Channel, wish: &Wish) {
    NodeClient::new(channel)
        .node_publish_volume(wish.request())
        .await
        .unwrap();
}

async fn unpublish(channel: Channel, wish: &Wish) {
    NodeClient::new(channel)
        .node_unpublish_volume(wire::NodeUnpublishVolumeRequest {
            volume_id: wish.volume.clone(),
            target_path: wish.target.to_str().unwrap().to_owned(),
        })
        .await
        .unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Resident memory of a process in MiB.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
