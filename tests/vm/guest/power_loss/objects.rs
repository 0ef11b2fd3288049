//! What commands make in a store: layers, images, containers, their names and data, and what must be there of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chance::Chance;
use crate::node::Node;
use crate::power;
use crate::support::image::{Layer, hex};
use crate::support::plugin::Settings;
use crate::support::tool::{Ran, Tool};
use crate::whole;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Layer,
    Image,
    Container,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Layer, Self::Image, Self::Container];

    /// In the names of commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Container => "container",
        }
    }
}

/// Something that is there or not; seeds make contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Object,
    /// Contents of a layer, as a tar.
    Contents(u64),
    Data(String, u64),
    Name(String),
    /// A file of a container that its process has synced.
    Written(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Asked for.
    Coming,
    /// Acknowledged.
    Here,
    /// To be deleted.
    Going,
    /// Its deletion was acknowledged.
    Gone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Object {
    pub kind: Kind,
    pub id: String,
    pub what: What,
    pub fate: Fate,
}

/// The store of these objects on a node's disk.
pub fn store(node: &Node) -> Settings {
    let mut settings = node.settings.clone();
    settings.graph = node.settings.graph.with_file_name("objects");
    settings.run = node.settings.run.with_extension("objects");
    settings
}

pub fn strata(store: &Settings, arguments: &[&str]) -> Tool {
    Tool::at(&store.binary)
        .args(store.store_arguments())
        .args(arguments)
}

/// An ID for what is called so.
pub fn id(name: &str) -> String {
    hex(name.as_bytes())
}

pub fn data(seed: u64) -> Vec<u8> {
    Chance::new(seed).bytes(20_000)
}

pub fn tar(seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let mut layer = Layer::new().dir("data").symlink("data/link", "0");
    for number in 0..8 {
        let size = usize::try_from(chance.next() % 40_000).expect("a size");
        layer = layer.file(&format!("data/{number}"), chance.bytes(size));
    }
    layer.tar()
}

/// What a container's process does: a file, synced.
pub fn write(store: &Settings, id: &str, seed: u64) {
    let root = strata(store, &["mount", id]).ok().last_line();
    let path = Path::new(&root).join("written");
    File::create(&path)
        .and_then(|mut file| {
            file.write_all(&data(seed))?;
            file.sync_all()
        })
        .and_then(|()| power::sync_folder(Path::new(&root)))
        .expect("a container's process can write");
}

/// The objects of a node's disk are as its ledger says; nothing is half there, and nothing else.
pub fn assert_kept(node: &Node) {
    let store = store(node);
    let list = |kind: Kind| -> Vec<Value> {
        let command = format!("{}s", kind.name());
        let listed = strata(&store, &[&command, "--json"]).ok().json();
        listed.as_array().cloned().unwrap_or_default()
    };
    let records = Kind::ALL.map(list);
    let ids: [BTreeSet<String>; 3] = [0, 1, 2].map(|kind: usize| {
        let ids = records[kind].iter().map(|record| text(record, "id"));
        ids.collect()
    });
    for object in &node.ledger.objects {
        let is_there = ids[object.kind as usize].contains(&object.id);
        if is_there || object.what == What::Object {
            let record = records[object.kind as usize]
                .iter()
                .find(|record| text(record, "id") == object.id);
            object.assert_as_it_should(&store, record);
        } else {
            assert!(object.fate != Fate::Here, "{object:?} is lost with all");
        }
    }
    let layers = |kind: usize| records[kind].iter().map(|record| text(record, "layer"));
    for layer in layers(1).chain(layers(2)) {
        assert!(ids[0].contains(&layer), "layer {layer} is lost");
    }
    assert_no_strangers(node, &ids, layers(2).collect());
    // A directory may be there before its record is: nobody sees it, and `gc` takes it.
    strata(&store, &["gc"]).ok();
    strata(&store, &["check"]).ok();
    whole::assert_directories(&store, &ids[0], &(&ids[1] | &ids[2]));
    whole::assert_checked_by_the_peer(&store);
}

/// Every object was asked for, or is a container's own layer.
fn assert_no_strangers(node: &Node, ids: &[BTreeSet<String>; 3], own: BTreeSet<String>) {
    for kind in Kind::ALL {
        let mut known: BTreeSet<_> = node
            .ledger
            .objects
            .iter()
            .filter(|object| object.kind == kind)
            .map(|object| object.id.clone())
            .collect();
        if kind == Kind::Layer {
            known.extend(own.iter().cloned());
        }
        let strangers: Vec<_> = ids[kind as usize].difference(&known).collect();
        assert!(
            strangers.is_empty(),
            "{kind:?}s that nobody made: {strangers:?}"
        );
    }
}

impl Object {
    fn assert_as_it_should(&self, store: &Settings, record: Option<&Value>) {
        let found = match &self.what {
            What::Object => record.is_some(),
            What::Name(name) => record.is_some_and(|record| {
                let names = record["names"].as_array();
                names.is_some_and(|names| names.iter().any(|known| known == name))
            }),
            What::Data(key, seed) => {
                let command = format!("get-{}-data", self.kind.name());
                self.is_whole(
                    strata(store, &[&command, &self.id, key]).output(),
                    &data(*seed),
                )
            }
            What::Contents(seed) => {
                let diff = strata(store, &["diff", "--uncompressed", &self.id]).ok();
                // Before they are applied.
                let is_empty = diff.stdout.iter().all(|byte| *byte == 0);
                !is_empty && self.is_whole(diff, &tar(*seed))
            }
            What::Written(seed) => {
                let root = strata(store, &["mount", &self.id]).ok().last_line();
                let found = fs::read(Path::new(&root).join("written")).ok();
                strata(store, &["unmount", &self.id]).ok();
                // Until it is synced, it may be as it likes.
                found == Some(data(*seed))
            }
        };
        match self.fate {
            Fate::Here => assert!(found, "{self:?} was acknowledged, and is lost"),
            Fate::Gone => assert!(!found, "{self:?} was deleted, and is there again"),
            Fate::Coming | Fate::Going => {}
        }
    }

    /// Whether the command has found something, which must be this.
    fn is_whole(&self, ran: Ran, bytes: &[u8]) -> bool {
        if ran.code != 0 {
            return false;
        }
        assert!(ran.stdout == bytes, "{self:?} has other bytes");
        true
    }
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}
