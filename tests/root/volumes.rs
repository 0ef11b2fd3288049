//! Inline volumes through the real plugin, registry and kernel.

use std::fs;

use tonic::Code;

use crate::support::image::{self, Built, Layer};
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::registry::Registry;
use crate::support::scratch::{Scratch, mounts_below};
use crate::support::tool;

/// A plugin on an empty store, and a registry with one image.
struct Node {
    kubelet: Kubelet,
    plugin: Option<Plugin>,
    settings: Settings,
    registry: Registry,
    reference: String,
    built: Built,
    scratch: Scratch,
}

impl Node {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("root");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let registry = Registry::start(&scratch.dir("registry"));
        registry.push(&layout, "test/busybox", "one");
        let settings = Settings::below(
            scratch.path(),
            &plugin::binary(env!("CARGO_BIN_EXE_strata")),
        );
        let plugin = Plugin::start(&settings);
        Self {
            kubelet: Kubelet::connect(&settings.socket),
            plugin: Some(plugin),
            reference: registry.reference("test/busybox", "one"),
            registry,
            settings,
            built,
            scratch,
        }
    }

    fn wish(&self, name: &str) -> Wish {
        Wish::inline(
            &inline_handle(name),
            &self.settings.target(name, "data"),
            Some(&self.reference),
        )
    }

    fn restart(&mut self) {
        let settings = self.plugin.take().unwrap().kill();
        self.plugin = Some(Plugin::start(&settings));
        self.kubelet = Kubelet::connect(&settings.socket);
    }

    /// How much is mounted, a driver home over itself included: that is the peers' habit, which the plugin
    /// has not.
    fn mounts(&self) -> usize {
        mounts_below(self.scratch.path()).len()
    }

    fn assert_code(&self, wish: &Wish, code: Code) -> String {
        let status = self.kubelet.publish(wish).unwrap_err();
        assert_eq!(
            status.code(),
            code,
            "{status:?}\n{}",
            self.settings.log_text()
        );
        assert!(status.details().is_empty(), "details are to be empty");
        assert!(
            !status.message().is_empty(),
            "the message says what is wrong"
        );
        assert_eq!(self.mounts(), 0, "nothing is half done");
        assert!(!wish.target.exists(), "no target is made: {status:?}");
        assert_eq!(self.containers(), 0, "no container is left: {status:?}");
        status.message().to_owned()
    }

    /// How many containers the store has, published or not.
    fn containers(&self) -> usize {
        let records = self
            .settings
            .graph
            .join("overlay-containers/containers.json");
        match fs::read(&records) {
            Ok(bytes) => serde_json::from_slice::<Vec<serde_json::Value>>(&bytes)
                .unwrap()
                .len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => panic!("{}: {error}", records.display()),
        }
    }
}

#[test]
fn two_volumes_of_one_image_differ_and_a_killed_plugin_finds_them() {
    let mut node = Node::new();
    let (one, two) = (node.wish("one"), node.wish("two"));
    node.kubelet.publish(&one).unwrap();
    node.kubelet.publish(&two).unwrap();
    fs::write(one.target.join("data/greeting"), "changed").unwrap();
    let read = |wish: &Wish| fs::read_to_string(wish.target.join("data/greeting")).unwrap();
    assert_eq!(read(&one), "changed");
    assert_eq!(read(&two), "hello from layer two\n");
    node.restart();
    assert_eq!(read(&one), "changed");
    node.kubelet.publish(&one).unwrap();
    assert_eq!(read(&one), "changed");
    let usage = node.kubelet.stats(&one.volume, &one.target).unwrap().usage;
    assert!(!usage.is_empty());
    assert_eq!(node.containers(), 2);
    for wish in [&one, &two] {
        node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        assert!(!wish.target.exists());
    }
    assert_eq!((node.mounts(), node.containers()), (0, 0));
    assert_eq!(node.plugin.take().unwrap().stop(), 0);
}

#[test]
fn a_read_only_volume_cannot_be_written() {
    let node = Node::new();
    let wish = node.wish("one").read_only();
    node.kubelet.publish(&wish).unwrap();
    assert!(wish.target.join("data/greeting").is_file());
    let error = fs::write(wish.target.join("new"), "x").unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );
    node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    assert_eq!(node.mounts(), 0);
}

#[test]
fn a_scratch_volume_is_empty_and_writable() {
    let node = Node::new();
    let wish = Wish::inline(
        &inline_handle("scratch"),
        &node.settings.target("pod", "data"),
        None,
    );
    node.kubelet.publish(&wish).unwrap();
    assert_eq!(fs::read_dir(&wish.target).unwrap().count(), 0);
    fs::write(wish.target.join("new"), "x").unwrap();
    node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    assert_eq!(node.mounts(), 0);
}

#[test]
fn bad_requests_get_the_right_code_and_leave_nothing() {
    let node = Node::new();
    let message = node.assert_code(&node.wish("one").with("imgae", "x"), Code::InvalidArgument);
    assert!(message.contains("imgae"), "the key is named: {message}");
    node.assert_code(
        &node.wish("one").with("pullPolicy", "Sometimes"),
        Code::InvalidArgument,
    );
    node.assert_code(
        &node.wish("one").with("pullPolicy", "Never"),
        Code::NotFound,
    );
    node.assert_code(
        &node
            .wish("one")
            .with("image", &node.registry.reference("test/busybox", "missing")),
        Code::NotFound,
    );
    node.assert_code(
        &node
            .wish("one")
            .with("image", "127.0.0.1:1/nobody/listens:one"),
        Code::Unavailable,
    );
    node.assert_code(
        &node.wish("one").with("image", "UPPER//case"),
        Code::InvalidArgument,
    );
    let mut relative = node.wish("one");
    relative.target = "relative/path".into();
    node.assert_code(&relative, Code::InvalidArgument);
}

#[test]
fn corrupt_layers_are_refused_and_leave_nothing() {
    let node = Node::new();
    let layout = node.scratch.path().join("corrupt");
    let built = image::write_layout(&layout, "bad", &[Layer::new().file("a", "content")]);
    // The registry believes what it is told in the manifest: the layer's diff ID is another one.
    let config = fs::read_to_string(layout.join("blobs/sha256").join(&built.id)).unwrap();
    let wrong = config.replace(
        &built.diff_ids[0],
        &image::digest(b"something else entirely"),
    );
    let wrong_digest = image::digest(wrong.as_bytes());
    let manifest = String::from_utf8(built.manifest.clone())
        .unwrap()
        .replace(&format!("sha256:{}", built.id), &wrong_digest);
    node.registry
        .push_blob("test/bad", &wrong_digest, wrong.as_bytes());
    let layer = fs::read(
        layout
            .join("blobs")
            .join(built.layer_digests[0].replace(':', "/")),
    )
    .unwrap();
    node.registry
        .push_blob("test/bad", &built.layer_digests[0], &layer);
    node.registry.push_manifest(
        "test/bad",
        "bad",
        "application/vnd.oci.image.manifest.v1+json",
        manifest.as_bytes(),
    );
    let message = node.assert_code(
        &node
            .wish("one")
            .with("image", &node.registry.reference("test/bad", "bad")),
        Code::DataLoss,
    );
    assert!(message.contains("diff"), "it says what is wrong: {message}");
}

#[test]
fn layers_that_leave_their_root_are_refused_or_stay_inside() {
    const NAME: &str = "escaped-from-a-layer";
    let node = Node::new();
    let outside = node.scratch.dir("outside");
    let aim = outside.to_str().unwrap();
    let inside_aim = format!("{}/{NAME}", aim.trim_start_matches('/'));
    let cases = [
        (
            "dots",
            Layer::new().file(&format!("../../../../{NAME}"), "x"),
            Ok(NAME),
        ),
        (
            "absolute",
            Layer::new().file(&format!("{aim}/{NAME}"), "x"),
            Ok(&*inside_aim),
        ),
        (
            "symlink",
            Layer::new()
                .symlink("link", aim)
                .file(&format!("link/{NAME}"), "x"),
            Ok(&*inside_aim),
        ),
        (
            "hardlink",
            Layer::new().hard_link(NAME, "../../../../../../../../etc/passwd"),
            Err(Code::DataLoss),
        ),
        (
            "device",
            Layer::new().member(NAME, b'3', 0o644, &[], ""),
            Err(Code::DataLoss),
        ),
    ];
    for (name, layer, expected) in cases {
        let layout = node.scratch.path().join(name);
        image::write_layout(&layout, "bad", &[layer]);
        node.registry.push(&layout, &format!("test/{name}"), "bad");
        let wish = node.wish(name).with(
            "image",
            &node.registry.reference(&format!("test/{name}"), "bad"),
        );
        match expected {
            Ok(place) => {
                node.kubelet.publish(&wish).unwrap();
                assert!(wish.target.join(place).is_file(), "{name}: {place}");
                node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
            }
            Err(code) => drop(node.assert_code(&wish, code)),
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name} got out");
        for folder in [std::path::Path::new("/"), node.scratch.path()] {
            assert!(!folder.join(NAME).exists(), "{name} got to {folder:?}");
        }
    }
    assert_eq!(node.mounts(), 0);
    assert_eq!(node.built.diff_ids.len(), 3);
}

#[test]
fn a_target_that_is_not_reached_by_directories_alone_is_refused() {
    let node = Node::new();
    let pods = node.settings.kubelet.join("pods");
    fs::write(pods.join("file"), "").unwrap();
    std::os::unix::fs::symlink(node.scratch.dir("elsewhere"), pods.join("link")).unwrap();
    for parent in ["file", "link", "missing"] {
        let mut wish = node.wish("one");
        wish.target = pods.join(parent).join("mount");
        node.assert_code(&wish, Code::InvalidArgument);
        node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    }
}

#[test]
fn a_pull_secret_opens_a_registry_with_basic_login() {
    tool::require_root();
    let scratch = Scratch::new("login");
    let layout = scratch.path().join("layout");
    image::write_busybox_layout(&layout, "one");
    let folder = scratch.dir("registry");
    let registry = Registry::start(&folder);
    registry.push(&layout, "test/busybox", "one");
    registry.stop();
    // Of `htpasswd -Bbn pod secret-word`.
    let line = "pod:$2y$05$ms65poTPtxUZoXZ.g5FwZe0niJnMTUCPpIJnbg3bdmYOiocxyBYW.";
    let registry = Registry::start_with_login(&folder, line);
    let settings = Settings::below(
        scratch.path(),
        &plugin::binary(env!("CARGO_BIN_EXE_strata")),
    );
    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let reference = registry.reference("test/busybox", "one");
    let wish = |secret: Option<&str>| {
        let target = settings.target("pod", "data");
        let mut wish = Wish::inline(&inline_handle("login"), &target, Some(&reference));
        if let Some(secret) = secret {
            let logins = serde_json::json!({ "auths": { registry.address().to_string():
                { "username": "pod", "password": secret } } });
            wish.secrets
                .insert(".dockerconfigjson".to_owned(), logins.to_string());
        }
        wish
    };
    for secret in [None, Some("wrong")] {
        let status = kubelet.publish(&wish(secret)).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    }
    let right = wish(Some("secret-word"));
    kubelet.publish(&right).unwrap_or_else(|status| {
        panic!("{status:?}\n{}", settings.log_text());
    });
    assert!(right.target.join("data/greeting").is_file());
    kubelet.unpublish(&right.volume, &right.target).unwrap();
    assert!(!settings.log_text().contains("secret-word"));
    assert_eq!(plugin.stop(), 0);
}
