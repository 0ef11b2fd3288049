//! What a registry that lies, falls silent or drips gets, over CSI: the right code, and nothing half done.

use std::fs;

use tonic::Code;

use super::bad_input::{World, refused};
use super::retries::publish_within;
use crate::support::image::{self, Built, Layer};
use crate::support::plugin::{Kubelet, Plugin, Wish};
use crate::support::server::{Mishap, Server};
use crate::support::standing::Standing;

/// A plugin, and a registry that has `a/b:x` until it is told otherwise.
struct Liar {
    world: World,
    kubelet: Kubelet,
    plugin: Plugin,
    server: Server,
    built: Built,
    layer: Vec<u8>,
}

impl Liar {
    fn new() -> Self {
        let world = World::new();
        let layout = world.scratch.path().join("layout");
        // Bytes that no compression makes fewer.
        let noise: Vec<u8> = (0..20_000_u32)
            .flat_map(|number| {
                number
                    .wrapping_mul(0x9E37_79B9)
                    .rotate_left(7)
                    .to_le_bytes()
            })
            .collect();
        let layers = [Layer::new().file("a", noise), Layer::new().file("b", "b")];
        let built = image::write_layout(&layout, "x", &layers);
        let server = Server::start();
        server.add_layout(&layout, "a/b", "x");
        let blob = layout
            .join("blobs")
            .join(built.layer_digests[0].replace(':', "/"));
        Self {
            plugin: Plugin::start(&world.settings),
            kubelet: Kubelet::connect(&world.settings.socket),
            layer: fs::read(blob).unwrap(),
            world,
            server,
            built,
        }
    }

    fn wish(&self) -> Wish {
        let reference = self.server.reference("a/b", "x");
        self.world.wish("liar", Some(&reference))
    }

    #[track_caller]
    fn refuses(&self, wish: &Wish, code: Code, says: &str) {
        let text = refused(&self.world, &self.kubelet, wish, code);
        assert!(text.contains(says), "{says:?}: {text}");
        assert!(!wish.target.exists());
        self.server.forget_mishaps();
    }
}

#[test]
fn bytes_that_are_not_what_was_promised_are_data_loss() {
    let liar = Liar::new();
    let layer = &liar.built.layer_digests[0];
    let mut flipped = liar.layer.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let oversized = [liar.layer.as_slice(), &[0; 3000]].concat();
    for (what, mishap) in [
        ("flipped", Mishap::Body(flipped)),
        ("truncated", Mishap::Truncated(middle)),
        ("oversized", Mishap::Body(oversized)),
        ("no layer at all", Mishap::Body(vec![7; liar.layer.len()])),
    ] {
        liar.server.mishap(layer, mishap);
        println!("{what}");
        liar.refuses(&liar.wish(), Code::DataLoss, layer);
    }
    let config = format!("blobs/sha256:{}", liar.built.id);
    liar.server.mishap(&config, Mishap::Body(b"{}".to_vec()));
    liar.refuses(&liar.wish(), Code::DataLoss, "push it again");

    // By its digest, for which the registry has something else, or nothing.
    let by = |digest: &str| {
        let reference = format!("{}/a/b@{digest}", liar.server.address);
        liar.world.wish("digest", Some(&reference))
    };
    let right = &liar.built.manifest_digest;
    liar.server
        .mishap(right, Mishap::Body(b"{\"schemaVersion\":2}".to_vec()));
    liar.refuses(&by(right), Code::DataLoss, right);
    let other = image::digest(b"something else");
    liar.refuses(&by(&other), Code::NotFound, &other);
    liar.refuses(&by("sha256:0123"), Code::InvalidArgument, "sha256:0123");

    // What was refused so often is as good as ever.
    for wish in [liar.wish(), by(right)] {
        liar.kubelet.publish(&wish).unwrap();
        assert_eq!(fs::read(wish.target.join("b")).unwrap(), b"b");
        liar.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    }
}

/// The caller is told in its time that the pull goes on; whoever ends the plugin in the middle finds nothing of it.
#[test]
fn a_registry_that_is_silent_or_drips_is_unavailable() {
    let liar = Liar::new();
    let before = Standing::of(&liar.world.settings);
    let layer = liar.built.layer_digests[0].clone();
    let wait = std::time::Duration::from_secs(2);
    let mut plugin = liar.plugin;
    for (part, mishap, says) in [
        ("manifests", Mishap::Silence, "has not told yet"),
        (&*layer, Mishap::Silence, "of 0.1 MB"),
        (&*layer, Mishap::Drip(60_000), "of 0.1 MB"),
    ] {
        liar.server.mishap(part, mishap);
        let wish = Wish::inline(
            &crate::support::plugin::inline_handle("liar"),
            &liar.world.settings.target("liar", "data"),
            Some(&liar.server.reference("a/b", "x")),
        );
        let status = publish_within(&liar.world.settings, &wish, wait).unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let text = status.message();
        assert!(
            text.contains(says) && text.contains("a retry joins it"),
            "{text}"
        );
        assert!(!wish.target.exists());
        let settings = plugin.kill();
        liar.server.forget_mishaps();
        plugin = Plugin::start(&settings);
        before.assert_kept(&settings);
    }
    let kubelet = Kubelet::connect(&liar.world.settings.socket);
    let wish = liar
        .world
        .wish("liar", Some(&liar.server.reference("a/b", "x")));
    kubelet.publish(&wish).unwrap();
    kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    assert_eq!(plugin.stop(), 0);
}
