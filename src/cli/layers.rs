//! Commands on layers.

use hashbrown::HashMap;

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{input, maps, objects, tree};
use crate::store::id_map::IdMap;
use crate::store::{
    ContainerRecord, Error, Found, ImageRecord, Kind, LayerRecord, NewLayer, Roster, Row,
    StageOptions, Store,
};

const NEW: &[Flag] = &[
    Flag::value("id", Some('i'), "Layer ID"),
    Flag::value("label", Some('l'), "Mount label"),
    Flag::switch("readonly", Some('r'), "Mark as read-only"),
];
const NAMES: &[Flag] = &[Flag::values("name", Some('n'), "Layer name")];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer("create-layer", "Create a new layer", Run::InStore(create))
        .alias(&["createlayer"])
        .operands("[parentLayerNameOrID]", 0, 1)
        .flags(&[NEW, NAMES, maps::FLAGS, output::JSON]),
    Definition::peer(
        "import-layer",
        "Create a new layer from a tar archive",
        Run::InStore(import),
    )
    .alias(&["importlayer"])
    .operands("[parentLayerNameOrID]", 0, 1)
    .flags(&[NEW, NAMES, maps::FLAGS, input::FILE, output::JSON]),
    Definition::peer(
        "create-storage-layer",
        "Create a layer of the driver, without a record",
        Run::InStore(create_driver),
    )
    .operands("[parentLayerID]", 0, 1)
    .flags(&[NEW, maps::FLAGS, output::JSON]),
    Definition::peer("layers", "List layers", Run::InStore(list)).flags(&[
        &[
            Flag::switch("quick", Some('q'), "Print IDs only"),
            Flag::switch("tree", Some('t'), "Draw a tree"),
        ],
        output::JSON,
    ]),
    Definition::peer(
        "storage-layers",
        "List the layers that the driver has",
        Run::InStore(list_driver),
    )
    .flags(&[output::JSON]),
    Definition::peer("layer", "Examine a layer", Run::InStore(examine))
        .operands("layerNameOrID [...]", 1, MANY)
        .flags(&[output::JSON]),
    Definition::peer(
        "delete-layer",
        "Delete a layer, with safety checks",
        Run::InStore(delete),
    )
    .alias(&["deletelayer"])
    .operands("layerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
];

fn new_layer(given: &Given) -> Result<NewLayer, Failure> {
    Ok(NewLayer {
        id: given.filled("id").map(str::to_owned),
        parent: given.find_operand(0).map(str::to_owned),
        names: given.texts("name"),
        is_read_only: given.has("readonly"),
        mount_label: given.text("label").unwrap_or_default().to_owned(),
        mappings: maps::wanted(given)?,
        ..NewLayer::default()
    })
}

/// The operand is a layer that is not known, whatever it was to be.
fn parent_unknown(error: Error) -> Failure {
    match error {
        Error::ParentUnknown => Error::Unknown(Kind::Layer).into(),
        error => error.into(),
    }
}

fn print_new(layer: &LayerRecord, given: &Given, output: &mut Output) -> Outcome {
    objects::print_new(layer, &layer.id, &layer.names, given, output)
}

/// `create-layer`.
fn create(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let layer = store
        .create_layer(new_layer(given)?, None)
        .map_err(parent_unknown)?;
    print_new(&layer, given, output)
}

/// `create-storage-layer`: one that no record speaks of, for whoever looks into drivers.
fn create_driver(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let id = given.filled("id").map(str::to_owned);
    let id = store.create_driver_layer(
        id,
        given.find_operand(0),
        given.has("readonly"),
        &maps::wanted(given)?,
    )?;
    if given.has("json") {
        output.json(&id)?;
    } else {
        output.line(&id)?;
    }
    Ok(0)
}

/// `import-layer`.
fn import(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let new = new_layer(given)?;
    let contents = input::open(given)?;
    let options = StageOptions {
        mappings: new.mappings.clone(),
        read_write: !new.is_read_only,
        ..StageOptions::default()
    };
    let staged = store
        .stage_layer(new.parent.as_deref(), contents, &options)
        .map_err(|error| parent_unknown(error.into()))?;
    let layer = store
        .create_layer(new, Some(staged))
        .map_err(parent_unknown)?;
    print_new(&layer, given, output)
}

/// `delete-layer`.
fn delete(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    objects::delete(given, output, |key| {
        store.delete_layer(key).map_err(|error| {
            let child = match error {
                Error::HasChildren => child_of(store, key),
                _ => None,
            };
            match child {
                Some(child) => Failure::new(format!("used by layer {child}: {error}")),
                None => error.into(),
            }
        })
    })
}

/// A layer that stands on the one that `key` finds.
pub(super) fn child_of(store: &Store, key: &str) -> Option<String> {
    let layers = store.layers().ok()?;
    let id = layers.find(key)?.id.clone();
    layers
        .iter()
        .find(|layer| layer.parent == id)
        .map(|layer| layer.id.clone())
}

/// `layers`.
fn list(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        let layers: Vec<_> = store.layers()?.iter().collect();
        output.json_list(&objects::records(&layers))?;
        return Ok(0);
    }
    if given.has("tree") {
        return draw_tree(store, output);
    }
    let layers = store.layer_roster()?;
    if given.has("quick") {
        for layer in layers.iter() {
            output.line(layer.id())?;
        }
        return Ok(0);
    }
    let (images, containers) = (
        store.images()?.iter().collect::<Vec<_>>(),
        store.container_roster()?,
    );
    let users = Users::of(&images, &containers);
    for layer in layers.iter() {
        output.line_of(&[layer.id()])?;
        for name in layer.names() {
            output.line_of(&["\tname: ", name])?;
        }
        for user in users.of_layer(layer.id()) {
            output.line_of(&["\t", user.kind, ": ", user.id])?;
            for name in &user.names {
                output.line_of(&["\t\tname: ", name])?;
            }
        }
    }
    Ok(0)
}

fn draw_tree(store: &Store, output: &mut Output) -> Outcome {
    let (images, containers) = (
        store.images()?.iter().collect::<Vec<_>>(),
        store.container_roster()?,
    );
    let users = Users::of(&images, &containers);
    let points = store.mount_points()?;
    let mut nodes = Vec::new();
    for layer in store.layers()?.iter() {
        let mut notes: Vec<String> = layer
            .names
            .iter()
            .map(|name| format!("name: {name}"))
            .collect();
        if let Some(point) = points.get(&layer.id) {
            notes.push(format!("mount: {}", point.display()));
        }
        for User { kind, id, names } in users.of_layer(&layer.id) {
            notes.push(format!("{kind}: {id}"));
            notes.extend(names.iter().map(|name| format!("{kind} name: {name}")));
        }
        nodes.push(tree::Node {
            id: layer.id.clone(),
            parent: layer.parent.clone(),
            notes,
        });
    }
    output.bytes(tree::draw(&nodes).as_bytes())?;
    Ok(0)
}

/// `storage-layers`: what the driver has, with or without a record.
fn list_driver(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut ids = store.driver().list().map_err(Error::from)?;
    ids.sort();
    if given.has("json") {
        output.json_list(&ids)?;
        return Ok(0);
    }
    for id in ids {
        output.line(id)?;
    }
    Ok(0)
}

/// An image or container that stands on a layer.
struct User<'a> {
    kind: &'static str,
    id: &'a str,
    names: Vec<&'a str>,
}

/// Who stands on which layer: images before containers.
struct Users<'a> {
    images: HashMap<&'a str, Vec<&'a ImageRecord>>,
    containers: HashMap<&'a str, Vec<&'a Row<ContainerRecord>>>,
}

impl<'a> Users<'a> {
    fn of(images: &'a [Found<ImageRecord>], containers: &'a Roster<ContainerRecord>) -> Self {
        let mut users = Self {
            images: HashMap::with_capacity(images.len()),
            containers: HashMap::with_capacity(containers.len()),
        };
        for image in images {
            for layer in image.top_layers() {
                users.images.entry(layer).or_default().push(image);
            }
        }
        for container in containers.iter() {
            let users = users.containers.entry(container.layer()).or_default();
            users.push(container);
        }
        users
    }

    fn of_layer(&self, id: &str) -> impl Iterator<Item = User<'a>> {
        let images = self.images.get(id).into_iter().flatten();
        let containers = self.containers.get(id).into_iter().flatten();
        let images = images.map(|image| User {
            kind: "image",
            id: &image.id,
            names: image.names.iter().map(String::as_str).collect(),
        });
        images.chain(containers.map(|container| User {
            kind: "container",
            id: container.id(),
            names: container.names().collect(),
        }))
    }
}

/// `layer`.
fn examine(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let layers = store.layers()?;
    let found: Vec<_> = given
        .operands
        .iter()
        .filter_map(|key| layers.find(key))
        .collect();
    let code = if found.len() == given.operands.len() {
        0
    } else {
        FAILED
    };
    if given.has("json") {
        output.json(&objects::records(&found))?;
        return Ok(code);
    }
    for layer in found {
        output.line(format_args!("ID: {}", layer.id))?;
        for (title, maps) in [("UID", &layer.uid_map), ("GID", &layer.gid_map)] {
            for IdMap {
                container_id,
                host_id,
                size,
            } in maps
            {
                output.line(format_args!(
                    "{title} mapping: (container={container_id}, host={host_id}, size={size})"
                ))?;
            }
        }
        if !layer.parent.is_empty() {
            output.line(format_args!("Parent: {}", layer.parent))?;
        }
        for name in &layer.names {
            output.line(format_args!("Name: {name}"))?;
        }
        if layer.is_read_only {
            output.line("Read Only: true")?;
        }
    }
    Ok(code)
}
