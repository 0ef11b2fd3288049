//! Mounts that a kill left without a record: they are taken over, never mounted a second time.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::node::Node;
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// The devices of all overlays, by their upper directories. Binds of one overlay share its device.
fn devices_by_upper() -> HashMap<String, HashSet<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut devices: HashMap<String, HashSet<String>> = HashMap::new();
    for line in table.lines().filter(|line| line.contains(" - overlay ")) {
        let upper = line
            .split(',')
            .find_map(|part| part.strip_prefix("upperdir="));
        let device = line.split(' ').nth(2).unwrap().to_owned();
        if let Some(upper) = upper {
            devices.entry(upper.to_owned()).or_default().insert(device);
        }
    }
    devices
}

#[test]
fn a_mount_that_was_not_recorded_is_taken_over() {
    let Node {
        scratch: _scratch,
        kubelet,
        settings,
        plugin,
    } = Node::new("unrecorded");
    let inline = Wish::inline(&inline_handle("one"), &settings.target("one", "data"), None);
    let made = kubelet.create("claim", &[]).unwrap();
    let mut claim = Wish::inline(&made.volume_id, &settings.target("two", "data"), None);
    claim.attributes = made.volume_context.into_iter().collect();
    for wish in [&inline, &claim] {
        kubelet.publish(wish).unwrap();
        fs::write(wish.target.join("file"), "kept").unwrap();
    }

    let settings = plugin.kill();
    let records = settings.run.join("overlay-layers/mountpoints.json");
    let recorded = fs::read_to_string(&records).unwrap();
    assert_eq!(recorded.matches("\"count\":1").count(), 2, "{recorded}");
    // As if it had been killed before it could write this file.
    fs::write(&records, "[]").unwrap();

    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let again = fs::read_to_string(&records).unwrap();
    assert_eq!(again.matches("\"count\":1").count(), 2, "{again}");
    for wish in [&inline, &claim] {
        kubelet.publish(wish).unwrap();
        assert_eq!(
            fs::read_to_string(wish.target.join("file")).unwrap(),
            "kept"
        );
    }
    let graph = settings.graph.to_str().unwrap();
    let devices = devices_by_upper();
    let ours: Vec<_> = devices
        .iter()
        .filter(|(upper, _)| upper.starts_with(graph))
        .collect();
    assert_eq!(ours.len(), 2, "{devices:?}");
    for (upper, devices) in ours {
        assert_eq!(devices.len(), 1, "{upper} is in one overlay: {devices:?}");
    }
    for wish in [&inline, &claim] {
        kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    }
    assert_eq!(fs::read_to_string(&records).unwrap(), "[]");
    assert_eq!(plugin.stop(), 0);
}

#[test]
fn a_layer_that_is_mounted_somewhere_is_no_garbage() {
    // `gc` asked nobody what is mounted: it took the upper directory of a mount away, and the next write in it failed.
    tool::require_root();
    let scratch = Scratch::new("unrecorded");
    let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
    let settings = Settings::below(scratch.path(), &binary);
    let strata = |arguments: &[&str]| {
        Tool::at(&settings.binary)
            .args(settings.store_arguments())
            .args(arguments)
    };
    let create = |arguments: &[&str]| {
        let ran = strata(&[&["create-layer"], arguments].concat()).ok();
        ran.text().lines().next().unwrap().to_owned()
    };
    let lowest = create(&[]);
    let middle = create(&[&lowest]);
    let written = create(&[&middle]);
    let bound = create(&[]);
    let idle = create(&[]);
    let unused = create(&[]);
    strata(&["mount", &idle]).ok();
    let home = settings.graph.join("overlay");
    let (overlay, bind) = (scratch.dir("mounted"), scratch.dir("bound"));
    let at = |id: &str, name: &str| home.join(id).join(name).display().to_string();
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={}",
        at(&middle, "diff"),
        at(&lowest, "diff"),
        at(&written, "diff"),
        at(&written, "work")
    );
    Tool::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&overlay)
        .ok();
    Tool::new("mount")
        .args(["--bind", &at(&bound, "diff")])
        .arg(&bind)
        .ok();
    fs::write(settings.graph.join("overlay-layers/layers.json"), "[]").unwrap();

    let used = [&lowest, &middle, &written, &bound];
    let repaired = strata(&["check", "--repair"]).output();
    assert_eq!(repaired.code, 1, "{repaired}");
    assert!(repaired.stderr.contains("is in use"), "{repaired}");
    strata(&["gc"]).ok();
    for id in used {
        assert!(home.join(id).join("diff").exists(), "{id} is used");
    }
    for id in [&idle, &unused] {
        assert!(!home.join(id).exists(), "{id} is not used");
    }
    fs::write(overlay.join("file"), "x").unwrap();
    fs::write(bind.join("file"), "x").unwrap();

    // Out of sight and still in use.
    let open = fs::File::open(overlay.join("file")).unwrap();
    Tool::new("umount").arg("--lazy").arg(&overlay).ok();
    Tool::new("umount").arg(&bind).ok();
    strata(&["gc"]).ok();
    assert!(home.join(&written).exists() && home.join(&lowest).exists());
    assert!(!home.join(&bound).exists());
    drop(open);
    strata(&["gc"]).ok();
    for id in used {
        assert!(!home.join(id).exists(), "{id} is no longer used");
    }
}
