//! What a reboot leaves of inline volumes. The machine stays up: its mounts are taken down, the run root
//! is emptied, and the store's notes are given another boot's ID.

use std::fs;

use rustix::process::Signal;

use crate::support::image;
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::scratch::{Scratch, unmount_below};
use crate::support::tool::{self, Tool};

struct Node {
    kubelet: Kubelet,
    plugin: Option<Plugin>,
    settings: Settings,
    reference: String,
    boots: u32,
    scratch: Scratch,
}

impl Node {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("reboot");
        let layout = scratch.path().join("layout");
        image::write_layout(
            &layout,
            "one",
            &[image::Layer::new().dir("data").file("data/a", "content")],
        );
        let settings = Settings::below(
            scratch.path(),
            &plugin::binary(env!("CARGO_BIN_EXE_strata")),
        );
        // Nobody listens there: the image is found in the store.
        let reference = "127.0.0.1:1/test/small:one".to_owned();
        Tool::at(&settings.binary)
            .args(settings.store_arguments())
            .args(["pull", "--quiet", "--name", &reference])
            .arg(format!("oci:{}:one", layout.display()))
            .ok();
        let plugin = Plugin::start(&settings);
        Self {
            kubelet: Kubelet::connect(&settings.socket),
            plugin: Some(plugin),
            settings,
            reference,
            boots: 0,
            scratch,
        }
    }

    fn publish(&self, name: &str) -> Wish {
        let wish = Wish::inline(
            &inline_handle(name),
            &self.settings.target(name, "data"),
            Some(&self.reference),
        );
        self.kubelet.publish(&wish).unwrap_or_else(|status| {
            panic!("{status:?}\n{}", self.settings.log_text());
        });
        wish
    }

    fn end(&mut self, signal: Signal) {
        assert_eq!(self.plugin.take().unwrap().stop_by(signal), 0);
    }

    fn start(&mut self) {
        self.plugin = Some(Plugin::start(&self.settings));
        self.kubelet = Kubelet::connect(&self.settings.socket);
    }

    /// Everything that a reboot ends has ended; what is on disk is of another boot.
    fn reboot(&mut self) {
        unmount_below(self.scratch.path());
        fs::remove_dir_all(&self.settings.run).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        self.boots += 1;
        let other = format!("{:08}-earlier", self.boots);
        let containers = self.settings.graph.join("overlay-containers");
        for folder in [&containers].into_iter().cloned().chain(
            fs::read_dir(&containers)
                .unwrap()
                .map(|entry| entry.unwrap().path().join("userdata")),
        ) {
            for name in ["containers.json", "boot"] {
                let file = folder.join(name);
                if let Ok(text) = fs::read_to_string(&file) {
                    fs::write(&file, text.replace(boot.trim(), &other)).unwrap();
                }
            }
        }
        self.start();
    }

    fn logs(&self, reason: &str) -> usize {
        self.settings.log_text().matches(reason).count()
    }
}

#[test]
fn a_volume_that_nobody_wrote_goes_on_after_a_shutdown_and_others_start_anew() {
    let mut node = Node::new();
    let (idle, busy) = (node.publish("idle"), node.publish("busy"));
    for wish in [&idle, &busy] {
        fs::write(wish.target.join("data/note"), "written").unwrap();
    }
    let writer = fs::File::create(busy.target.join("data/log")).unwrap();
    node.end(Signal::POWER);
    let error = fs::write(idle.target.join("data/late"), "x").unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error()),
        "what is said to be saved can't be written any more"
    );
    fs::write(busy.target.join("data/late"), "x").unwrap();
    drop(writer);
    node.reboot();
    node.publish("idle");
    node.publish("busy");
    assert_eq!(
        fs::read_to_string(idle.target.join("data/note")).unwrap(),
        "written"
    );
    assert!(!busy.target.join("data/note").exists());
    assert_eq!(
        (node.logs("VolumeKept"), node.logs("VolumeStartedAnew")),
        (1, 1),
        "{}",
        node.settings.log_text()
    );
    // It is written in this boot, and a boot that ends without a word keeps nothing.
    fs::write(idle.target.join("data/more"), "more").unwrap();
    drop(node.plugin.take().unwrap().kill());
    node.reboot();
    node.publish("idle");
    assert!(!idle.target.join("data/note").exists());
    assert!(idle.target.join("data/a").exists());
}

#[test]
fn a_shutdown_that_does_not_come_lets_volumes_be_written_again() {
    let mut node = Node::new();
    let marker = node.scratch.path().join("going-down");
    node.settings.arguments = vec![
        "--shutdown-file".to_owned(),
        marker.to_str().unwrap().to_owned(),
    ];
    drop(node.plugin.take());
    node.start();
    let wish = node.publish("one");
    fs::write(wish.target.join("data/note"), "written").unwrap();
    // The plugin alone ends: its volumes stay as they are.
    node.end(Signal::TERM);
    fs::write(wish.target.join("data/note"), "again").unwrap();
    node.start();
    fs::write(&marker, "").unwrap();
    node.end(Signal::TERM);
    assert!(fs::write(wish.target.join("data/note"), "late").is_err());
    fs::remove_file(&marker).unwrap();
    node.start();
    fs::write(wish.target.join("data/note"), "on").unwrap();
    node.publish("one");
    drop(node.plugin.take().unwrap().kill());
    // The mark is gone: what was written since is not safe.
    node.reboot();
    node.publish("one");
    assert!(!wish.target.join("data/note").exists());
}
