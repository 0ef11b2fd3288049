//! Commands on data items and directories of layers, images and containers.

use std::io::Write as _;
use std::path::Path;

use super::definition::{Definition, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::input;
use super::output::{self, Output};
use crate::store::{BigDataItem, Error, Kind, Store};
use crate::sys::File;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "list-layer-data",
        "List data items of a layer",
        Run::InStore(|store, given, output| list(Kind::Layer, store, given, output)),
    )
    .alias(&["listlayerdata"])
    .operands("layerNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-layer-data",
        "Get a data item of a layer",
        Run::InStore(|store, given, output| get(Kind::Layer, store, given, output)),
    )
    .alias(&["getlayerdata"])
    .operands("layerNameOrID dataName", 2, 2)
    .flags(&[output::FILE]),
    Definition::peer(
        "set-layer-data",
        "Set a data item of a layer",
        Run::InStore(|store, given, output| set(Kind::Layer, store, given, output)),
    )
    .alias(&["setlayerdata"])
    .operands("layerNameOrID dataName", 2, 2)
    .flags(&[input::FILE, output::JSON]),
    Definition::peer(
        "list-image-data",
        "List data items of an image",
        Run::InStore(|store, given, output| list(Kind::Image, store, given, output)),
    )
    .alias(&["listimagedata"])
    .operands("imageNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-image-data",
        "Get a data item of an image",
        Run::InStore(|store, given, output| get(Kind::Image, store, given, output)),
    )
    .alias(&["getimagedata"])
    .operands("imageNameOrID dataName", 2, 2)
    .flags(&[output::FILE]),
    Definition::peer(
        "get-image-data-size",
        "Get the size of a data item of an image",
        Run::InStore(|store, given, output| size(Kind::Image, store, given, output)),
    )
    .alias(&["getimagedatasize"])
    .operands("imageNameOrID dataName", 2, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-image-data-digest",
        "Get the digest of a data item of an image",
        Run::InStore(|store, given, output| digest(Kind::Image, store, given, output)),
    )
    .alias(&["getimagedatadigest"])
    .operands("imageNameOrID dataName", 2, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "set-image-data",
        "Set a data item of an image",
        Run::InStore(|store, given, output| set(Kind::Image, store, given, output)),
    )
    .alias(&["setimagedata"])
    .operands("imageNameOrID dataName", 2, 2)
    .flags(&[input::FILE, output::JSON]),
    Definition::peer(
        "get-image-dir",
        "Find the data directory of an image",
        Run::InStore(|store, given, output| {
            let found = store.image_directory(given.operand(0))?;
            directory(&found, given, output)
        }),
    )
    .alias(&["getimagedir"])
    .operands("imageNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-image-run-dir",
        "Find the runtime directory of an image",
        Run::InStore(|store, given, output| {
            let found = store.image_run_directory(given.operand(0))?;
            directory(&found, given, output)
        }),
    )
    .alias(&["getimagerundir"])
    .operands("imageNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "list-container-data",
        "List data items of a container",
        Run::InStore(|store, given, output| list(Kind::Container, store, given, output)),
    )
    .alias(&["listcontainerdata"])
    .operands("containerNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-container-data",
        "Get a data item of a container",
        Run::InStore(|store, given, output| get(Kind::Container, store, given, output)),
    )
    .alias(&["getcontainerdata"])
    .operands("containerNameOrID dataName", 2, 2)
    .flags(&[output::FILE]),
    Definition::peer(
        "get-container-data-size",
        "Get the size of a data item of a container",
        Run::InStore(|store, given, output| size(Kind::Container, store, given, output)),
    )
    .alias(&["getcontainerdatasize"])
    .operands("containerNameOrID dataName", 2, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-container-data-digest",
        "Get the digest of a data item of a container",
        Run::InStore(|store, given, output| digest(Kind::Container, store, given, output)),
    )
    .alias(&["getcontainerdatadigest"])
    .operands("containerNameOrID dataName", 2, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "set-container-data",
        "Set a data item of a container",
        Run::InStore(|store, given, output| set(Kind::Container, store, given, output)),
    )
    .alias(&["setcontainerdata"])
    .operands("containerNameOrID dataName", 2, 2)
    .flags(&[input::FILE, output::JSON]),
    Definition::peer(
        "get-container-dir",
        "Find the data directory of a container",
        Run::InStore(|store, given, output| {
            let found = store.container_directory(given.operand(0))?;
            directory(found.path(), given, output)
        }),
    )
    .alias(&["getcontainerdir"])
    .operands("containerNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "get-container-run-dir",
        "Find the runtime directory of a container",
        Run::InStore(|store, given, output| {
            let found = store.container_run_directory(given.operand(0))?;
            directory(found.path(), given, output)
        }),
    )
    .alias(&["getcontainerrundir"])
    .operands("containerNameOrID", 1, 1)
    .flags(&[output::JSON]),
];

fn fail(kind: Kind, given: &Given) -> impl Fn(crate::store::Error) -> Failure {
    let key = given.operand(0).to_owned();
    move |error| match kind {
        Kind::Image => Failure::of_image(&key, error),
        Kind::Layer | Kind::Container => error.into(),
    }
}

/// `list-…-data`.
fn list(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let keys = store
        .list_big_data(kind, given.operand(0))
        .map_err(fail(kind, given))?;
    if given.has("json") {
        output.json_list(&keys)?;
        return Ok(0);
    }
    for key in keys {
        output.line(key)?;
    }
    Ok(0)
}

/// `get-…-data`.
fn get(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let bytes = store.big_data(kind, given.operand(0), given.operand(1));
    let bytes = bytes.map_err(|error| match error {
        Error::NoBigData { .. } => missing(kind, store, given),
        error => fail(kind, given)(error),
    })?;
    match given.filled("file") {
        None => output.bytes(&bytes)?,
        Some(path) => {
            let mut file = File::create(path, 0o644)?;
            file.write_all(&bytes)
                .map_err(|error| Failure::new(format!("write {path}")).caused_by(&error))?;
        }
    }
    Ok(0)
}

/// An item that the object, which is there, does not have.
fn missing(kind: Kind, store: &Store, given: &Given) -> Failure {
    let key = given.operand(0);
    let id = match kind {
        Kind::Layer => store
            .find_layer(key)
            .map(|found| found.map(|layer| layer.id.clone())),
        Kind::Image => store
            .find_image(key)
            .map(|found| found.map(|image| image.id.clone())),
        Kind::Container => {
            let found = store.find_container(key);
            found.map(|found| found.map(|container| container.id.clone()))
        }
    };
    let id = id.ok().flatten().unwrap_or_else(|| key.to_owned());
    let item = given.operand(1);
    let advice = match kind {
        Kind::Image => " (consider removing the image to resolve the issue)",
        Kind::Layer | Kind::Container => "",
    };
    Failure::new(format!(
        "locating item named {item:?} for {kind} with ID {id:?}{advice}: file does not exist"
    ))
}

/// `get-…-data-size`.
fn size(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let size = store.big_data_size(kind, given.operand(0), given.operand(1));
    let size = size.map_err(fail(kind, given))?;
    // A number is the same as text and as JSON.
    output.line(size)?;
    Ok(0)
}

/// `get-…-data-digest`.
fn digest(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let digest = store.big_data_digest(kind, given.operand(0), given.operand(1));
    print_text(digest.map_err(fail(kind, given))?.as_str(), given, output)
}

/// `set-…-data`.
fn set(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let item = BigDataItem::new(given.operand(1), input::read(given)?);
    store
        .set_big_data(kind, given.operand(0), item)
        .map_err(fail(kind, given))?;
    output::print_nothing(given, output)
}

/// `get-…-dir` and `get-…-run-dir`.
fn directory(path: &Path, given: &Given, output: &mut Output) -> Outcome {
    print_text(&path.display().to_string(), given, output)
}

fn print_text(text: &str, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(text)?
    } else {
        output.line(text)?
    }
    Ok(0)
}
