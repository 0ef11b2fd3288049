//! Commands that work on layers, images and containers alike: deletion, names, metadata, existence.

use std::collections::BTreeMap;

use serde::Serialize;

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::input;
use super::output::{self, Output};
use crate::store::{Error, Found, Kind, Store};

const NAMES: &[Flag] = &[Flag::values(
    "name",
    Some('n'),
    "Name; may be given several times",
)];
const EXISTS: &[Flag] = &[
    Flag::switch(
        "container",
        Some('c'),
        "Only succeed if the match is a container",
    ),
    Flag::switch("image", Some('i'), "Only succeed if the match is an image"),
    Flag::switch("layer", Some('l'), "Only succeed if the match is a layer"),
    Flag::switch("quiet", Some('q'), "Print nothing"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "delete",
        "Delete a layer, image or container, without safety checks",
        Run::InStore(|store, given, output| delete(given, output, |key| Ok(store.delete(key)?))),
    )
    .operands("LayerOrImageOrContainerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
    Definition::peer(
        "exists",
        "Check if a layer, image or container exists",
        Run::InStore(exist),
    )
    .operands("LayerOrImageOrContainerNameOrID [...]", 1, MANY)
    .flags(&[EXISTS, output::JSON]),
    Definition::peer(
        "get-names",
        "Print the names of a layer, image or container",
        Run::InStore(names),
    )
    .alias(&["getnames"])
    .operands("LayerOrImageOrContainerNameOrID", 1, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "add-names",
        "Add names to a layer, image or container",
        Run::InStore(|store, given, output| {
            change_names(given, output, |key, names| store.add_names(key, names))
        }),
    )
    .alias(&["addnames"])
    .operands("LayerOrImageOrContainerNameOrID", 1, MANY)
    .flags(&[NAMES, output::JSON]),
    Definition::peer(
        "remove-names",
        "Remove names of a layer, image or container",
        Run::InStore(|store, given, output| {
            change_names(given, output, |key, names| store.remove_names(key, names))
        }),
    )
    .alias(&["removenames"])
    .operands("LayerOrImageOrContainerNameOrID", 1, MANY)
    .flags(&[NAMES, output::JSON]),
    Definition::peer(
        "set-names",
        "Replace the names of a layer, image or container",
        Run::InStore(|store, given, output| {
            change_names(given, output, |key, names| store.set_names(key, names))
        }),
    )
    .alias(&["setnames"])
    .operands("LayerOrImageOrContainerNameOrID", 1, MANY)
    .flags(&[NAMES, output::JSON]),
    Definition::peer(
        "metadata",
        "Print the metadata of a layer, image or container",
        Run::InStore(metadata),
    )
    .operands("LayerOrImageOrContainerNameOrID [...]", 1, MANY)
    .flags(&[
        &[Flag::switch("quiet", Some('q'), "Omit names and IDs")],
        output::JSON,
    ]),
    Definition::peer(
        "set-metadata",
        "Set the metadata of a layer, image or container",
        Run::InStore(set_metadata),
    )
    .alias(&["setmetadata"])
    .operands("layerOrImageOrContainerNameOrID", 1, 1)
    .flags(&[input::METADATA, output::JSON]),
];

/// The records of what was found.
pub(super) fn records<R>(found: &[Found<R>]) -> Vec<&R> {
    found.iter().map(|found| &*found.record).collect()
}

/// What the creation of an object prints.
pub(super) fn print_new(
    record: &impl Serialize,
    id: &str,
    names: &[String],
    given: &Given,
    output: &mut Output,
) -> Outcome {
    if given.has("json") {
        output.json(record)?;
        return Ok(0);
    }
    output.line(id)?;
    for name in names {
        output.line(format_args!("\t{name}"))?;
    }
    Ok(0)
}

/// `delete`, `delete-layer`, `delete-container`: all of them are tried.
pub(super) fn delete(
    given: &Given,
    output: &mut Output,
    delete: impl Fn(&str) -> Result<(), Failure>,
) -> Outcome {
    let mut results = BTreeMap::new();
    for key in &given.operands {
        let text = match delete(key) {
            Ok(()) => String::new(),
            Err(failure) => failure.text(),
        };
        results.insert(key.clone(), text);
    }
    let code = if results.values().all(String::is_empty) {
        0
    } else {
        FAILED
    };
    if given.has("json") {
        output.json(&results)?;
        return Ok(code);
    }
    for (key, text) in results.iter().filter(|result| !result.1.is_empty()) {
        output.error_line(format_args!("{key}: {text}"));
    }
    Ok(code)
}

/// `get-names`.
fn names(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let names = store.names(given.operand(0))?;
    if given.has("json") {
        output.json(&names)?;
        return Ok(0);
    }
    for name in names {
        output.line(name)?;
    }
    Ok(0)
}

/// `add-names`, `remove-names`, `set-names`.
fn change_names(
    given: &Given,
    output: &mut Output,
    change: impl FnOnce(&str, &[String]) -> Result<Vec<String>, Error>,
) -> Outcome {
    let names = change(given.operand(0), &given.texts("name"))?;
    if given.has("json") {
        output.json_list(&names)?;
    }
    Ok(0)
}

/// `metadata`.
fn metadata(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut found = BTreeMap::new();
    let mut code = 0;
    for key in &given.operands {
        let text = match store.metadata(key) {
            Ok(text) => Some(text),
            Err(Error::NotAnId) => None,
            Err(error) => return Err(error.into()),
        };
        if text.is_none() {
            code = FAILED;
        }
        let text = text
            .as_deref()
            .map(|text| text.strip_suffix('\n').unwrap_or(text));
        if given.has("json") {
            found.extend(text.map(|text| (key.clone(), text.to_owned())));
            continue;
        }
        let text = text.unwrap_or_default();
        if given.has("quiet") {
            output.line(text)?;
        } else {
            output.line(format_args!("{key}: {text}"))?;
        }
    }
    if given.has("json") {
        output.json(&found)?;
    }
    Ok(code)
}

/// `set-metadata`.
fn set_metadata(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    if given.filled("metadata").is_none() && given.filled("metadata-file").is_none() {
        return Err(Failure::new("no new metadata provided"));
    }
    store.set_metadata(given.operand(0), &input::metadata(given)?)?;
    output::print_nothing(given, output)
}

/// `exists`: prints whether anything has the key; the exit code also looks at the kind asked for. A kind that tells
/// nothing new is not read.
fn exist(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut results = BTreeMap::new();
    let mut code = 0;
    for key in &given.operands {
        let mut exists = false;
        let mut is_wrong = false;
        // Those with the smaller records first.
        for kind in [Kind::Image, Kind::Container, Kind::Layer] {
            let is_asked = given.has(kind.as_str());
            if exists && !is_asked {
                continue;
            }
            let is_there = match kind {
                Kind::Image => store.find_image(key)?.is_some(),
                Kind::Container => store.find_container(key)?.is_some(),
                Kind::Layer => store.find_layer(key)?.is_some(),
            };
            exists |= is_there;
            is_wrong |= is_asked && !is_there;
        }
        if !exists || is_wrong {
            code = FAILED;
        }
        results.insert(key.clone(), exists);
    }
    if given.has("json") {
        output.json(&results)?;
    } else if !given.has("quiet") {
        for key in &given.operands {
            if let Some(exists) = results.remove(key) {
                output.line(format_args!("{key}: {exists}"))?;
            }
        }
    }
    Ok(code)
}
