//! Stores beside stores, in turn with the newest containers-storage.

use std::path::PathBuf;

use strata::sys::mount;

use crate::shared::{Shared, binary};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

const STRATA: &str = "strata";
const NEWEST: &str = "containers-storage-newest";

/// A store of its own, in mounts that end with this thread.
struct Place {
    scratch: Scratch,
    flags: Vec<String>,
}

impl Place {
    fn new(flags: &[&str]) -> Self {
        tool::require_root();
        mount::enter_private_namespace().unwrap();
        let scratch = Scratch::new("peer-beside");
        let path = scratch.path().display().to_string();
        let flags = flags.iter().map(|flag| flag.replace("PLACE", &path));
        let flags = flags.collect();
        Self { scratch, flags }
    }

    fn run(&self, who: &str, arguments: &[&str]) -> Tool {
        let program = match who {
            STRATA => binary(),
            _ => tool::find(who),
        };
        let (command, rest) = arguments.split_first().unwrap();
        Tool::at(&program)
            .arg(command)
            .arg("--graph")
            .arg(self.scratch.path().join("graph"))
            .arg("--run")
            .arg(self.scratch.path().join("run"))
            .args(["--storage-driver", "overlay"])
            .args(&self.flags)
            .args(rest)
    }

    fn id(&self, who: &str, arguments: &[&str]) -> String {
        let text = self.run(who, arguments).ok().text();
        text.lines().next().unwrap().to_owned()
    }

    fn mount(&self, who: &str, key: &str) -> PathBuf {
        self.run(who, &["mount", key]).ok().last_line().into()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.scratch.path().join(path)).unwrap()
    }
}

fn transient_containers_go_from_hand_to_hand(maker: &str, user: &str) {
    let place = Place::new(&["--transient-store"]);
    let base = place.id(maker, &["create-layer", "--readonly"]);
    place.id(maker, &["create-image", "--name", "image", &base]);
    let made = place.id(maker, &["create-container", "--name", "made", "image"]);
    let other = place.id(user, &["create-container", "--name", "other", "image"]);
    for who in [maker, user] {
        let mut listed = vec![made.clone(), other.clone()];
        listed.sort();
        let seen = place.run(who, &["containers", "--json"]).ok();
        assert_eq!(Shared::ids(&seen), listed, "{who}");
    }
    let records = place.read("run/overlay-containers/volatile-containers.json");
    assert!(records.contains(&made) && records.contains(&other));
    let root = place.mount(user, "made");
    std::fs::write(root.join("note"), "from the user").unwrap();
    place.run(user, &["unmount", "made"]).ok();
    let root = place.mount(maker, "made");
    assert_eq!(
        std::fs::read_to_string(root.join("note")).unwrap(),
        "from the user"
    );
    place.run(maker, &["unmount", "made"]).ok();
    place.run(user, &["delete-container", "made"]).ok();
    place.run(maker, &["delete-container", "other"]).ok();
    for who in [maker, user] {
        let seen = place.run(who, &["containers", "--json"]).ok();
        assert!(Shared::ids(&seen).is_empty(), "{who}");
    }
}

#[test]
fn the_newest_uses_transient_containers_of_strata() {
    transient_containers_go_from_hand_to_hand(STRATA, NEWEST);
}

#[test]
fn strata_uses_transient_containers_of_the_newest() {
    transient_containers_go_from_hand_to_hand(NEWEST, STRATA);
}

/// What is recorded where, as the records of both roots say.
fn assert_is_split(place: &Place, base: &str, written: &str) {
    let records = place.read("images/overlay-layers/layers.json");
    assert!(records.contains(base) && !records.contains(written));
    let records = place.read("graph/overlay-layers/layers.json");
    assert!(records.contains(written) && !records.contains(&format!(r#""id":"{base}""#)));
    let home = |root: &str, id: &str| place.scratch.path().join(root).join("overlay").join(id);
    assert!(home("images", base).exists() && home("graph", written).exists());
    assert!(!home("graph", base).exists() && !home("images", written).exists());
}

fn images_of_a_split_store_go_from_hand_to_hand(maker: &str, user: &str) {
    let place = Place::new(&["--image-store", "PLACE/images"]);
    let tree = place.scratch.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("from-image"), maker).unwrap();
    let archive = place.scratch.path().join("tar").display().to_string();
    Tool::new("tar")
        .args(["-cf", &archive, "-C"])
        .arg(&tree)
        .arg("from-image")
        .ok();
    let base = place.id(maker, &["import-layer", "--readonly", "--file", &archive]);
    for who in [maker, user] {
        let root = place.mount(who, &base);
        assert!(std::fs::write(root.join("new"), "").is_err(), "{who}");
        place.run(who, &["unmount", &base]).ok();
    }
    let child = place.id(user, &["create-layer", "--readonly", &base]);
    place.id(user, &["create-image", "--name", "image", &child]);
    let written = place.id(maker, &["create-layer", &child]);
    let made = place.id(maker, &["create-container", "--name", "made", "image"]);
    assert_is_split(&place, &base, &written);
    assert_is_split(&place, &child, &written);
    for who in [maker, user] {
        for (kind, count) in [("layers", 4), ("images", 1), ("containers", 1)] {
            let seen = place.run(who, &[kind, "--json"]).ok();
            assert_eq!(Shared::ids(&seen).len(), count, "{who}: {kind}");
        }
        let root = place.mount(who, &made);
        assert_eq!(
            std::fs::read_to_string(root.join("from-image")).unwrap(),
            maker
        );
        place.run(who, &["unmount", &made]).ok();
    }
    place.run(user, &["delete-container", "made"]).ok();
    place.run(user, &["delete-layer", &written]).ok();
    place.run(maker, &["delete-image", "image"]).ok();
    for who in [maker, user] {
        let seen = place.run(who, &["layers", "--json"]).ok();
        assert!(Shared::ids(&seen).is_empty(), "{who}");
    }
}

#[test]
fn the_newest_uses_a_split_store_of_strata() {
    images_of_a_split_store_go_from_hand_to_hand(STRATA, NEWEST);
}

#[test]
fn strata_uses_a_split_store_of_the_newest() {
    images_of_a_split_store_go_from_hand_to_hand(NEWEST, STRATA);
}
