//! `check` of Strata and of the newest peer say the same of the same damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use strata::sys::Dir;
use strata::sys::record_lock::RecordLock;

use crate::shared::{Shared, binary};
use crate::support::scratch::{Scratch, unmount_below};
use crate::support::tool::{self, Ran, Tool};

/// IDs by kind, as the JSON of `check` has them.
fn told(ran: &Ran) -> BTreeMap<String, Vec<String>> {
    let Value::Object(kinds) = ran.json() else {
        panic!("no object: {ran}");
    };
    let ids = |value: &Value| value.as_object().unwrap().keys().cloned().collect();
    kinds
        .iter()
        .map(|(kind, value)| (kind.clone(), ids(value)))
        .collect()
}

fn check(program: &Whose<'_>, graph: &Path, run: &Path, flags: &[&str]) -> Ran {
    let tool = match program {
        Whose::Peer => Tool::new("containers-storage-newest"),
        Whose::Strata(binary) => Tool::at(binary),
    };
    let ran = tool
        .arg("--graph")
        .arg(graph)
        .arg("--run")
        .arg(run)
        .args(["--storage-driver", "overlay", "check"])
        .args(flags)
        .output();
    unmount_below(graph.parent().unwrap());
    ran
}

/// Whose `check`.
enum Whose<'a> {
    Peer,
    Strata(&'a Path),
}

#[test]
fn both_find_the_same_damage_and_none_where_there_is_none() {
    let shared = Shared::new();
    shared.pull();
    let layout = shared.scratch.path().join("umoci");
    crate::support::image::build_with_umoci(shared.scratch.path(), &layout, "x");
    shared
        .strata(&["pull", "-q", &format!("oci:{}:x", layout.display())])
        .ok();
    shared
        .strata(&["create-container", "--name", "c", &shared.reference])
        .ok();
    let root = shared.strata(&["mount", "c"]).ok().last_line();
    fs::write(format!("{root}/data/new"), "new").unwrap();
    fs::remove_dir_all(format!("{root}/etc")).unwrap();
    shared.strata(&["commit", "c", "web"]).ok();
    // Ours unmounts nothing.
    let clean = shared.strata(&["check"]).ok();
    assert_eq!(clean.text(), "");
    assert!(fs::exists(format!("{root}/data/new")).unwrap());
    shared.strata(&["unmount", "c"]).ok();
    unmount_below(&shared.settings.graph);

    let layers = shared.strata(&["layers", "--json"]).ok().json();
    let of = |diff_id: &str| {
        let layers = layers.as_array().unwrap();
        let found = layers
            .iter()
            .find(|layer| layer["diff-digest"] == diff_id)
            .unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let [lowest, .., top] = shared.built.diff_ids.as_slice() else {
        panic!("an image of several layers");
    };
    let (lowest, top) = (of(lowest), of(top));
    let image = &shared.built.id;
    let scripts = [
        "true".to_owned(),
        format!("echo x > overlay/{top}/diff/data/added"),
        format!("chmod 600 overlay/{lowest}/diff/bin/busybox"),
        format!("rm overlay/{lowest}/diff/bin/busybox"),
        format!("rm -r overlay/{top}/diff/data"),
        format!("rm overlay-images/{image}/manifest"),
        format!("echo >> overlay-images/{image}/manifest"),
        format!("mkdir overlay/{}", "a".repeat(64)),
        format!("rm overlay-layers/{top}.tar-split.gz"),
    ];
    let copy = shared.scratch.path().join("copy");
    for script in scripts {
        let results = [Whose::Peer, Whose::Strata(&shared.settings.binary)].map(|program| {
            Tool::new("cp")
                .args(["-a", "--one-file-system"])
                .arg(&shared.settings.graph)
                .arg(&copy)
                .ok();
            Tool::new("sh")
                .args(["-ec", "cd \"$0\"; eval \"$1\""])
                .arg(&copy)
                .arg(&script)
                .ok();
            let run = shared.scratch.path().join("check-run");
            let ran = check(&program, &copy, &run, &["--json"]);
            // What either calls repaired, the peer finds whole.
            let repaired = check(&program, &copy, &run, &["--repair", "--force"]);
            assert_eq!(repaired.code, 0, "{script}: {repaired}");
            let after = check(&Whose::Peer, &copy, &run, &[]);
            assert_eq!(after.code, 0, "{script}: {after}");
            fs::remove_dir_all(&copy).unwrap();
            (ran.code, told(&ran))
        });
        let [(their_code, mut theirs), (our_code, mut ours)] = results;
        assert_eq!(our_code, their_code, "{script}");
        // The peer tells of other owners and modes once more for each layer above; we where it is.
        let [their_layers, our_layers] =
            [&mut theirs, &mut ours].map(|told| told.remove("Layers").unwrap());
        assert_eq!(our_layers.is_empty(), their_layers.is_empty(), "{script}");
        assert!(
            our_layers.iter().all(|id| their_layers.contains(id)),
            "{script}"
        );
        assert_eq!(ours, theirs, "{script}");
    }
}

const STRATA: &str = "strata";
const PEER: &str = "containers-storage-newest";
const PROGRAM: &str = "overlay.mount_program=/usr/bin/fuse-overlayfs";
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const MODIFIED: &str = "layer content modified";

/// A store of two layers: the upper one deletes a file, and all that the lower one has in a directory.
struct Stack {
    scratch: Scratch,
    options: Vec<String>,
    copies: bool,
    lower: Vec<u8>,
    upper: Vec<u8>,
}

impl Stack {
    fn new(options: &[&str]) -> Self {
        tool::require_root();
        let scratch = Scratch::new("stack");
        let archive = |name: &str, script: &str| {
            let tree = scratch.dir(name);
            Tool::new("sh").args(["-ec", script]).within(&tree).ok();
            let tar = Tool::new("tar").args(["--numeric-owner", "--sort=name", "-c", "-C"]);
            tar.arg(&tree).args(["d", "e"]).ok().stdout
        };
        let lower = archive(
            "lower",
            "mkdir d e; touch d/old e/gone; echo kept > e/kept; chown 5:6 e/kept",
        );
        let upper = archive(
            "upper",
            "mkdir d e; touch d/.wh..wh..opq d/new e/.wh.gone e/new",
        );
        Self {
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            copies: false,
            lower,
            upper,
            scratch,
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Tool {
        self.run_in("graph", program, arguments)
    }

    fn run_in(&self, graph: &str, program: &str, arguments: &[&str]) -> Tool {
        let tool = match program {
            STRATA => Tool::at(&binary()),
            program => Tool::new(program),
        };
        let mut tool = tool
            .args(["--graph", &self.scratch.text(graph)])
            .args(["--run", &self.scratch.text(&format!("{graph}-run"))])
            .args(["--storage-driver", "overlay"]);
        for option in &self.options {
            tool = tool.args(["--storage-opt", option]);
        }
        if self.copies {
            tool = tool.env("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes");
        }
        tool.args(arguments)
    }

    fn first(&self, tool: Tool) -> String {
        tool.ok().text().lines().next().unwrap().to_owned()
    }

    fn import(&self, program: &str, arguments: &[&str], archive: &[u8]) -> String {
        let arguments = [&["import-layer"], arguments].concat();
        self.first(self.run(program, &arguments).input(archive.to_vec()))
    }

    fn make(&self, program: &str, kind: &str, arguments: &[&str]) -> String {
        self.first(self.run(program, &[&[kind], arguments].concat()))
    }

    fn diff_of(&self, layer: &str) -> Dir {
        let layer = format!("graph/overlay/{layer}/diff");
        Dir::open(self.scratch.path().join(layer)).unwrap()
    }

    /// What both say of the store: exit codes, and whether `words` are among it.
    fn both_say(&self, code: i32, words: &str) {
        for program in [PEER, STRATA] {
            let ran = self.run(program, &["check"]).output();
            assert_eq!(ran.code, code, "{program}: {ran}");
            assert!(ran.text().contains(words), "{program}, {words}: {ran}");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        unmount_below(self.scratch.path());
    }
}

/// A mount program's deletions are files. Ours were the kernel's marks, the peer's were damage to us, and `check --repair`
/// deleted the peer's images.
#[test]
fn layers_of_a_mount_program_are_in_order_whoever_made_them() {
    let store = Stack::new(&[PROGRAM]);
    let mut made: Vec<String> = Vec::new();
    for maker in [STRATA, PEER, "earlier"] {
        let program = if maker == PEER { PEER } else { STRATA };
        let lower = store.import(program, &[], &store.lower);
        let upper = store.import(program, &[&lower], &store.upper);
        let diff = store.diff_of(&upper);
        match maker {
            "earlier" => {
                // As earlier versions of Strata have left it.
                let script = "rm d/.wh..wh..opq e/.wh.gone; mknod e/gone c 0 0; touch -d @5 d e";
                let reference = store.diff_of(&made[0]);
                Tool::new("sh")
                    .args(["-ec", script])
                    .within(diff.path())
                    .ok();
                for name in ["d", "e"] {
                    Tool::new("touch")
                        .arg("-r")
                        .arg(reference.path().join(name))
                        .arg(diff.path().join(name))
                        .ok();
                }
                diff.set_attribute("d", OPAQUE, b"y").unwrap();
            }
            _ => {
                for name in ["d/.wh..wh..opq", "e/.wh.gone"] {
                    assert!(diff.stat(name).unwrap().is_some(), "{maker}: {name}");
                }
            }
        }
        let image = store.make(program, "create-image", &[&upper]);
        let container = store.make(program, "create-container", &[&image]);
        for reader in [STRATA, PEER] {
            let root = store.run(reader, &["mount", &container]).ok().last_line();
            let list = Tool::new("find").args([".", "-mindepth", "2"]);
            let mut seen: Vec<String> = list
                .within(Path::new(&root))
                .ok()
                .text()
                .lines()
                .map(str::to_owned)
                .collect();
            seen.sort();
            assert_eq!(
                seen,
                ["./d/new", "./e/kept", "./e/new"],
                "{maker}, {reader}"
            );
            store.run(reader, &["unmount", &container]).ok();
        }
        let told = |arguments: &[&str]| {
            [STRATA, PEER].map(|reader| store.run(reader, arguments).ok().stdout)
        };
        // The peer tells them in no order.
        let [ours, theirs] = told(&["changes", &upper]).map(|said| {
            let text = String::from_utf8(said).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        });
        for deleted in ["e/gone", "d/old"] {
            let line = format!("Delete \"/{deleted}\"");
            assert!(ours.contains(&line), "{maker}: {ours:?}");
        }
        assert_eq!(ours, theirs, "{maker}");
        let [ours, theirs] = told(&["diff", "-u", &upper]);
        assert!(ours == store.upper && theirs == store.upper, "{maker}");
        made.push(upper);
    }
    store.both_say(0, "");
    store.run(STRATA, &["check", "--repair"]).ok();
    let images = store.run(PEER, &["images", "--json"]).ok().json();
    assert_eq!(images.as_array().unwrap().len(), 3);
    // What is not in order is told.
    let diff = store.diff_of(&made[1]);
    fs::remove_file(diff.path().join("d/.wh..wh..opq")).unwrap();
    store.both_say(1, &format!("layer {}: +/d/old, {MODIFIED}", made[1]));
}

#[test]
fn what_shows_through_a_directory_that_was_opaque_is_told() {
    let store = Stack::new(&[]);
    let lower = store.import(STRATA, &[], &store.lower);
    let upper = store.import(PEER, &[&lower], &store.upper);
    let image = store.make(STRATA, "create-image", &[&upper]);
    store.make(STRATA, "create-container", &[&image]);
    store.both_say(0, "");
    store.diff_of(&upper).remove_attribute("d", OPAQUE).unwrap();
    store.both_say(1, &format!(" layer {upper}: +/d/old, {MODIFIED}"));
}

#[test]
fn a_layer_that_can_not_be_mounted_is_told() {
    let store = Stack::new(&[]);
    let lower = store.import(STRATA, &[], &store.lower);
    let image = store.make(STRATA, "create-image", &[&lower]);
    let container = store.make(STRATA, "create-container", &[&image]);
    let record = store.run(STRATA, &["container", "--json", &container]).ok();
    let layer = record.json()[0]["layer"].as_str().unwrap().to_owned();
    let place = store.scratch.path().join("graph/overlay").join(&layer);
    let nobody = "f".repeat(64);
    fs::write(place.join("lower-layers"), &nobody).unwrap();
    fs::remove_file(place.join("lower")).unwrap();
    let missing = store.scratch.text(&format!("graph/overlay/{nobody}/diff"));
    store.both_say(
        1,
        &format!(
            " layer {layer}: can't stat (or find?) lower layer \"{missing}\": stat {missing}: no such file or directory"
        ),
    );
}

#[test]
fn owners_of_mapped_layers_are_compared_as_the_container_has_them() {
    let mut store = Stack::new(&[]);
    store.copies = true;
    let maps = ["--uidmap", "0:1000:100", "--gidmap", "0:1000:100"];
    for maker in [STRATA, PEER] {
        let layer = store.import(maker, &maps, &store.lower);
        store.both_say(0, "");
        let kept = store.diff_of(&layer).path().join("e/kept");
        std::os::unix::fs::chown(&kept, Some(1004), None).unwrap();
        store.both_say(1, &format!("/e/kept(uid:5￫4), {MODIFIED}"));
        std::os::unix::fs::chown(&kept, Some(5), None).unwrap();
        store.both_say(1, "/e/kept(host ID 5 cannot be mapped to a container ID)");
        std::os::unix::fs::chown(&kept, Some(1005), None).unwrap();
    }
}

/// Files that pulls have linked to each other have the time of one of them. `check --repair` deleted such images.
#[test]
fn times_of_files_that_layers_share_say_nothing() {
    let store = Stack::new(&[]);
    let layer = store.import(STRATA, &[], &store.lower);
    Tool::new("touch")
        .args(["-d", "@5"])
        .arg(store.diff_of(&layer).path().join("e/kept"))
        .ok();
    store.both_say(1, "/e/kept(mtime:");
    let config = store.scratch.path().join("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n\
         [storage.options]\npull_options = {{use_hard_links = \"true\"}}\n",
        store.scratch.text("graph"),
        store.scratch.text("graph-run")
    );
    fs::write(&config, text).unwrap();
    for tool in [Tool::new(PEER), Tool::at(&binary())] {
        tool.env("CONTAINERS_STORAGE_CONF", &config)
            .arg("check")
            .ok();
    }
}

/// A layer that an additional store has as well was told twice, and never in order again after its repair.
#[test]
fn an_additional_store_is_told_of_as_such_and_once() {
    let mut store = Stack::new(&[]);
    let layer = store.import(STRATA, &["--id", "both"], &store.lower);
    unmount_below(store.scratch.path());
    let other = store.scratch.path().join("other");
    fs::rename(store.scratch.path().join("graph"), &other).unwrap();
    store.import(STRATA, &["--id", "both"], &store.lower);
    store.make(STRATA, "create-image", &["--id", "own", &layer]);
    store.options = vec![format!("overlay.imagestore={}", other.display())];
    store.both_say(0, "");

    let added = |graph: &Path| graph.join("overlay/both/diff/added");
    let own = store.scratch.path().join("graph");
    fs::write(added(&own), "").unwrap();
    let found = store.run(STRATA, &["check"]).output();
    let line = format!(" layer both: +/added, {MODIFIED}");
    let counted = found.text().matches("layer both:\n").count();
    assert_eq!(counted, 1, "{found}");
    assert!(found.text().contains(&line), "{found}");
    assert!(
        found.stderr.contains("1 layer errors, 0 read-only"),
        "{found}"
    );
    store.run(STRATA, &["check", "--repair"]).ok();

    // What only the other store has is told of as its own.
    let options = std::mem::take(&mut store.options);
    let image = ["create-image", "--id", "other", "both"];
    store.run_in("other", STRATA, &image).ok();
    store.options = options;
    fs::remove_file(other.join("overlay/both/diff/e/kept")).unwrap();
    store.both_say(1, "read-only layer both:\n read-only layer both: ");
    store.both_say(1, "read-only image other:\n read-only layer both: ");
}

#[test]
fn a_store_of_a_mount_program_needs_no_configuration() {
    let mut store = Stack::new(&[PROGRAM]);
    let layer = store.import(PEER, &[], &store.lower);
    let image = store.make(PEER, "create-image", &[&layer]);
    let container = store.make(PEER, "create-container", &[&image]);
    store.options.clear();
    for program in [PEER, STRATA] {
        let ran = store.run(program, &["mount", &container]).ok();
        assert!(Path::new(&ran.last_line()).join("e/kept").exists());
        // fuse-overlayfs says something on each run.
        assert!(program == PEER || ran.stderr.is_empty(), "{ran}");
        store.run(program, &["unmount", &container]).ok();
    }
    let nowhere = store.run(STRATA, &["images"]).env("PATH", "/nowhere");
    let refused = nowhere.output();
    assert_eq!(refused.code, 1, "{refused}");
    let hint = "install fuse-overlayfs, or configure mount_program";
    assert!(format!("{refused}").contains(hint), "{refused}");
}

/// What peers hold is theirs; what they left when they died is garbage, to the newest peer as well.
#[test]
fn what_dead_peers_have_left_is_garbage() {
    for program in [PEER, STRATA] {
        let store = Stack::new(&[]);
        let layer = store.import(PEER, &[], &store.lower);
        unmount_below(store.scratch.path());
        let graph = store.scratch.path().join("graph");
        let script = "mkdir -p overlay/tempdirs/temp-dir-1/0-x overlay/tempdirs/temp-dir-2 overlay-layers/tmp/temp-dir-3 \
                      overlay/staging/dead/dir overlay/staging/alive/dir overlay/compat123/merged; \
                      touch overlay/tempdirs/lock-1 overlay-layers/tmp/lock-3 overlay/staging/dead/staging.lock; \
                      ln -s ../gone/diff overlay/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        Tool::new("sh").args(["-ec", script]).within(&graph).ok();
        let held = [
            "overlay/tempdirs/lock-2",
            "overlay/staging/alive/staging.lock",
        ]
        .map(|name| {
            let file = Dir::open(&graph).unwrap().ensure_file(name, 0o600).unwrap();
            RecordLock::try_exclusive(file).unwrap().unwrap()
        });
        store.run(program, &["gc"]).ok();
        for gone in [
            "overlay/tempdirs/temp-dir-1",
            "overlay/tempdirs/lock-1",
            "overlay-layers/tmp/temp-dir-3",
            "overlay-layers/tmp/lock-3",
            "overlay/staging/dead",
            "overlay/compat123",
        ] {
            assert!(!graph.join(gone).exists(), "{program}: {gone}");
        }
        for used in [
            "overlay/tempdirs/temp-dir-2",
            "overlay/staging/alive/dir",
            "overlay",
        ] {
            assert!(graph.join(used).exists(), "{program}: {used}");
        }
        let links = fs::read_dir(graph.join("overlay/l")).unwrap().count();
        assert!(links == 1 || program == PEER, "{links} short links");
        drop(held);
        store.run(STRATA, &["diff", "-u", &layer]).ok();
    }
}
