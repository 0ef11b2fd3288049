//! In the guest: work on each disk, with a mark before each request and after each acknowledgement.

use super::mark::{AREA, Marks, SIZE};
use super::objects::{self, Fate, Kind, Object, What};
use crate::disk;
use crate::images;
use crate::ledger::Ledger;
use crate::life::{KEPT, on_each};
use crate::node::Node;
use crate::support::plugin::Settings;
use rustix::process::Signal;

/// Images that are pulled.
pub const PULLS: u32 = 2;

/// Whether all work succeeded.
pub fn run() -> bool {
    let registry = images::registry();
    images::make(&registry, PULLS);
    // Who replays makes the same images.
    std::fs::copy("/bin/busybox", "/out/busybox").expect("busybox can be copied");
    let mut nodes: Vec<Node> = disk::Kind::ALL
        .into_iter()
        .map(|kind| {
            kind.make_small(SIZE - AREA);
            let marks = Marks::on(kind);
            let folder = kind.mount_with(&kind.device(), "defaults");
            let log = format!("plugin-{}.log", kind.name());
            Node::at(kind, &folder, &log, Ledger::in_log(marks))
        })
        .collect();
    on_each(
        &mut nodes,
        "work whose writes and flushes are recorded",
        |node| {
            let store = objects::store(node);
            for round in 0..2 {
                Work {
                    node,
                    store: &store,
                }
                .round(round);
            }
            volumes(node);
        },
    )
}

/// A plugin's work, and pulls beside it.
fn volumes(node: &mut Node) {
    node.start();
    let kept = node.create_claim(KEPT);
    node.write_claim(&kept, "written once\n");
    node.write_inline("inline", Some(images::SITE));
    let going = node.create_claim("going");
    node.write_claim(&going, "not for long\n");
    for number in 0..PULLS {
        let command = node.spawn_pull(number);
        node.write_claim(&kept, &format!("beside the pull of {number}\n"));
        node.acknowledge_pull(command, number);
    }
    node.delete_claim(&going);
    node.end_inline("inline");
    let last = node.create_claim("last");
    node.write_claim(&last, "the last\n");
    node.stop(Signal::TERM);
}

struct Work<'a> {
    node: &'a mut Node,
    store: &'a Settings,
}

impl Work<'_> {
    /// Objects of every kind, and those of the round before go.
    fn round(&mut self, round: u64) {
        let id = |name: &str| objects::id(&format!("{name} {round}"));
        let [base, top, late, image, container] =
            ["base", "top", "late", "image", "container"].map(id);
        let seed = round * 100;
        let file = std::env::temp_dir().join(format!("input-{}", self.node.kind.name()));
        let path = file.to_str().expect("UTF-8").to_owned();
        let give = |bytes: Vec<u8>| std::fs::write(&file, bytes).expect("a file can be written");
        use Kind::{Container, Image, Layer};

        give(objects::tar(seed));
        let whole = |id: &str, seed| {
            vec![
                (Layer, id.to_owned(), What::Object),
                (Layer, id.to_owned(), What::Contents(seed)),
            ]
        };
        self.make(
            whole(&base, seed),
            &["import-layer", "--id", &base, "--file", &path],
        );
        give(objects::tar(seed + 1));
        self.make(
            whole(&top, seed + 1),
            &["import-layer", "--id", &top, "--file", &path, &base],
        );

        let name = |kind: &str| format!("{kind}-{round}");
        let named = |kind: Kind, id: &str| {
            vec![
                (kind, id.to_owned(), What::Object),
                (kind, id.to_owned(), What::Name(name(kind.name()))),
            ]
        };
        self.make(
            named(Image, &image),
            &[
                "create-image",
                "--id",
                &image,
                "--name",
                &name("image"),
                &top,
            ],
        );
        self.make(
            named(Container, &container),
            &[
                "create-container",
                "--id",
                &container,
                "--name",
                &name("container"),
                &image,
            ],
        );
        for (kind, id, seed) in [
            (Image, &image, seed + 2),
            (Container, &container, seed + 3),
            (Layer, &top, seed + 4),
        ] {
            give(objects::data(seed));
            let command = format!("set-{}-data", kind.name());
            self.make(
                vec![(kind, id.clone(), What::Data("key".to_owned(), seed))],
                &[&command, "--file", &path, id, "key"],
            );
        }
        let written = vec![(Container, container.clone(), What::Written(seed + 5))];
        self.note(&written, Fate::Coming);
        objects::write(self.store, &container, seed + 5);
        self.note(&written, Fate::Here);
        objects::strata(self.store, &["unmount", &container]).ok();

        // In place.
        self.make(
            vec![(Layer, late.clone(), What::Object)],
            &["create-layer", "--id", &late, &base],
        );
        give(objects::tar(seed + 6));
        self.make(
            vec![(Layer, late.clone(), What::Contents(seed + 6))],
            &["applydiff", "--file", &path, &late],
        );
        self.make(
            vec![(Image, image.clone(), What::Name(name("more")))],
            &["add-names", "--name", &name("more"), &image],
        );
        if round == 0 {
            return;
        }
        self.remove(&[&objects::id("container 0")], "delete-container");
        self.remove(&[&objects::id("late 0")], "delete-layer");
        // With the image go its layers.
        let with = ["image 0", "top 0", "base 0"].map(objects::id);
        let gone: Vec<_> = with.iter().map(String::as_str).collect();
        self.remove(&gone, "delete-image");
    }

    fn note(&mut self, things: &[(Kind, String, What)], fate: Fate) {
        self.node.ledger.note(|ledger| {
            for (kind, id, what) in things {
                ledger
                    .objects
                    .retain(|known| known.id != *id || known.what != *what);
                ledger.objects.push(Object {
                    kind: *kind,
                    id: id.clone(),
                    what: what.clone(),
                    fate,
                });
            }
        });
    }

    fn make(&mut self, things: Vec<(Kind, String, What)>, arguments: &[&str]) {
        // Until its contents are there, a layer that is changed in place may be taken for a damaged one.
        let unsure =
            (arguments[0] == "applydiff").then(|| (Kind::Layer, things[0].1.clone(), What::Object));
        let unsure: Vec<_> = unsure.into_iter().collect();
        self.note(&[things.clone(), unsure.clone()].concat(), Fate::Coming);
        objects::strata(self.store, arguments).ok();
        self.note(&[things, unsure].concat(), Fate::Here);
    }

    /// Deletes the first, and with it the others and all that hangs on them.
    fn remove(&mut self, ids: &[&str], command: &str) {
        self.set_fate(ids, Fate::Going);
        objects::strata(self.store, &[command, ids[0]]).ok();
        self.set_fate(ids, Fate::Gone);
    }

    fn set_fate(&mut self, ids: &[&str], fate: Fate) {
        self.node.ledger.note(|ledger| {
            for object in &mut ledger.objects {
                if ids.contains(&object.id.as_str()) {
                    object.fate = fate;
                }
            }
        });
    }
}
