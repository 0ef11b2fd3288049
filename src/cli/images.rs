//! Commands on images.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{input, objects};
use crate::digest::Digest;
use crate::store::{Error, Found, ImageRecord, NewImage, Store};

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "create-image",
        "Create a new image over a layer",
        Run::InStore(create),
    )
    .alias(&["createimage"])
    .operands("[topLayerNameOrID]", 0, 1)
    .flags(&[
        &[
            Flag::value("digest", Some('d'), "Image digest"),
            Flag::value("id", Some('i'), "Image ID"),
            Flag::values("name", Some('n'), "Image name"),
        ],
        input::METADATA,
        output::JSON,
    ]),
    Definition::peer("images", "List images", Run::InStore(list)).flags(&[QUIET, output::JSON]),
    Definition::peer(
        "images-by-digest",
        "List images by digest",
        Run::InStore(list_by_digest),
    )
    .operands("DIGEST", 1, 1)
    .flags(&[QUIET, output::JSON]),
    Definition::peer("image", "Examine an image", Run::InStore(examine))
        .operands("imageNameOrID [...]", 1, MANY)
        .flags(&[output::JSON]),
    Definition::peer(
        "delete-image",
        "Delete an image, with safety checks",
        Run::InStore(delete),
    )
    .alias(&["deleteimage"])
    .operands("imageNameOrID [...]", 1, MANY)
    .flags(&[
        &[Flag::switch(
            "test",
            Some('t'),
            "Only say what would be removed",
        )],
        output::JSON,
    ]),
];

const QUIET: &[Flag] = &[Flag::switch("quiet", Some('q'), "Print IDs only")];

/// A digest as the user gave it, with the peer's words for what is wrong.
fn parse_digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|_| {
        let reason = match text.split_once(':') {
            None => "invalid checksum digest format",
            Some(("sha256" | "sha384" | "sha512", hex)) => {
                let is_hex = hex
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if is_hex && !hex.is_empty() {
                    "invalid checksum digest length"
                } else {
                    "invalid checksum digest format"
                }
            }
            Some(_) => "unsupported digest algorithm",
        };
        Failure::new(format!("{text:?}: {reason}"))
    })
}

/// `create-image`.
fn create(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let digest = given.filled("digest").map(parse_digest).transpose()?;
    let image = store.create_image(NewImage {
        id: given.filled("id").map(str::to_owned),
        names: given.texts("name"),
        layer: given.find_operand(0).map(str::to_owned),
        metadata: input::metadata(given)?,
        digest,
        ..NewImage::default()
    })?;
    objects::print_new(&*image, &image.id, &image.names, given, output)
}

/// `images`.
fn list(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let images: Vec<_> = store.images()?.iter().collect();
    if given.has("json") {
        output.json_list(&objects::records(&images))?;
        return Ok(0);
    }
    print_list(&images, given, output)
}

/// `images-by-digest`.
fn list_by_digest(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let digest = parse_digest(given.operand(0))?;
    let mut images: Vec<_> = store.images()?.iter().collect();
    images.retain(|image| image.digests().contains(&&digest));
    if given.has("json") {
        output.json(&objects::records(&images))?;
        return Ok(0);
    }
    print_list(&images, given, output)
}

fn print_list(images: &[Found<ImageRecord>], given: &Given, output: &mut Output) -> Outcome {
    for image in images {
        output.line(&image.id)?;
        if given.has("quiet") {
            continue;
        }
        for name in &image.names {
            output.line(format_args!("\tname: {name}"))?;
        }
        for digest in image.digests() {
            output.line(format_args!("\tdigest: {digest}"))?;
        }
        for key in &image.big_data_names {
            output.line(format_args!("\tdata: {key}"))?;
        }
    }
    Ok(0)
}

/// `image`.
fn examine(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let images = store.images()?;
    let found: Vec<_> = given
        .operands
        .iter()
        .filter_map(|key| images.find(key))
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
    for image in found {
        output.line(format_args!("ID: {}", image.id))?;
        for name in &image.names {
            output.line(format_args!("Name: {name}"))?;
        }
        // An image may have none: then the line ends early, as the peer's.
        for layer in std::iter::once(&image.layer).chain(&image.mapped_layers) {
            output.line(format_args!("Top Layer: {layer}"))?;
        }
        for digest in image.digests() {
            output.line(format_args!("Digest: {digest}"))?;
        }
        for key in &image.big_data_names {
            output.line(format_args!("Data: {key}"))?;
        }
        match size(store, &image) {
            Ok(size) => output.line(format_args!("Size: {size}"))?,
            Err(error) => {
                output.line(format_args!(
                    "Size unknown: {}",
                    super::failure::chain(&error)
                ))?;
            }
        }
        if image.is_read_only {
            output.line("Read Only: true")?;
        }
    }
    Ok(code)
}

/// Bytes of all layers below an image's top layers, each once, and of its data items.
fn size(store: &Store, image: &ImageRecord) -> Result<u64, Error> {
    let layers = store.layers()?;
    let mut seen = HashSet::new();
    let mut size = 0;
    for top in image.top_layers() {
        let mut next = top.to_owned();
        while !next.is_empty() && seen.insert(next.clone()) {
            let layer = layers
                .find_id(&next)
                .ok_or(Error::Unknown(crate::store::Kind::Layer))?;
            size += match layer.diff_digest.get() {
                Some(_) => layer.diff_size.unsigned_abs(),
                None => store.diff_size(&layer.id, None)?,
            };
            next.clone_from(&layer.parent);
        }
    }
    Ok(size
        + image
            .big_data_sizes
            .values()
            .map(|size| size.unsigned_abs())
            .sum::<u64>())
}

/// What the deletion of one image brought, in the peer's JSON.
#[derive(Debug, Default, Serialize)]
struct Deleted {
    #[serde(rename = "deleted-layers", skip_serializing_if = "Vec::is_empty")]
    layers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// `delete-image`.
fn delete(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut results = BTreeMap::new();
    for key in &given.operands {
        let deleted = match store.delete_image(key, !given.has("test")) {
            Ok(deleted) => Deleted {
                layers: deleted.layers,
                error: String::new(),
            },
            Err(error) => Deleted {
                layers: Vec::new(),
                error: Failure::from(error).text(),
            },
        };
        results.insert(key.clone(), deleted);
    }
    let code = if results.values().all(|result| result.error.is_empty()) {
        0
    } else {
        FAILED
    };
    if given.has("json") {
        output.json(&results)?;
        return Ok(code);
    }
    for (key, result) in &results {
        for layer in &result.layers {
            output.error_line(format_args!("{key}: {layer}"));
        }
        if !result.error.is_empty() {
            output.error_line(format_args!("{key}: {}", result.error));
        }
    }
    Ok(code)
}
