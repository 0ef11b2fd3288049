//! Differences of layers: as a tar archive, as a list, as a size; and taking one in.

use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::input;
use super::output::{self, Output, OutputFile, Quoted};
use crate::archive::changes::Kind;
use crate::archive::compression::Compression;
use crate::store::Store;
use crate::sys::{Dir, File};

const COMPRESSIONS: &[Flag] = &[
    Flag::switch("bzip2", Some('b'), "Compress with bzip2 (not supported)").alias(&["bz2"]),
    Flag::switch("gzip", Some('c'), "Compress with gzip"),
    Flag::switch("uncompressed", Some('u'), "Don't compress"),
    Flag::switch("xz", Some('x'), "Compress with xz (not supported)"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "changes",
        "List what differs between two layers",
        Run::InStore(changes),
    )
    .operands("layerNameOrID [referenceLayerNameOrID]", 1, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "diffsize",
        "Measure what differs between two layers",
        Run::InStore(size),
    )
    .alias(&["diff-size"])
    .operands("layerNameOrID [referenceLayerNameOrID]", 1, 2)
    .flags(&[output::JSON]),
    Definition::peer(
        "diff",
        "Write what differs between two layers as a tar archive",
        Run::InStore(diff),
    )
    .operands("layerNameOrID [referenceLayerNameOrID]", 1, 2)
    .flags(&[COMPRESSIONS, output::FILE]),
    Definition::peer(
        "applydiff",
        "Apply a tar archive to a layer",
        Run::InStore(apply),
    )
    .alias(&["apply-diff"])
    .operands("layerNameOrID", 1, 1)
    .flags(&[input::FILE, output::JSON]),
    Definition::peer(
        "applydiff-using-staging-dir",
        "Make what is in a directory the contents of a layer",
        Run::InStore(apply_directory),
    )
    .operands("layerNameOrID directory", 2, 2)
    .flags(&[output::JSON]),
];

/// The compression that was asked for; by default the one that the layer came in.
fn compression(given: &Given) -> Result<Option<Compression>, Failure> {
    let unsupported = |compression| Err(Failure::unsupported(compression));
    // Of several the first of these counts, as with the peer.
    if given.has("xz") {
        unsupported(Compression::Xz)
    } else if given.has("bzip2") {
        unsupported(Compression::Bzip2)
    } else if given.has("gzip") {
        Ok(Some(Compression::Gzip))
    } else if given.has("uncompressed") {
        Ok(Some(Compression::None))
    } else {
        Ok(None)
    }
}

/// `diff`.
fn diff(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let compression = compression(given)?;
    let (layer, from) = (given.operand(0), given.find_operand(1));
    match given.filled("file") {
        None => store.diff(layer, from, compression, output.stream())?,
        Some(path) => {
            let file = OutputFile(File::create(path, 0o644)?);
            let mut file = BufWriter::with_capacity(1 << 16, file);
            store.diff(layer, from, compression, &mut file)?;
            file.flush().map_err(Failure::stdout)?;
        }
    }
    Ok(0)
}

/// `diffsize`.
fn size(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let size = store.diff_size(given.operand(0), given.find_operand(1))?;
    // A number is the same in JSON.
    output.line(size)?;
    Ok(0)
}

/// One change in the peer's JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedChange {
    path: String,
    kind: u8,
}

/// A path as JSON can say it: each byte that is no part of UTF-8 becomes U+FFFD, as in Go.
fn text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// `changes`.
fn changes(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let changes = store.changes(given.operand(0), given.find_operand(1))?;
    if given.has("json") {
        let listed: Vec<_> = changes
            .iter()
            .map(|change| ListedChange {
                path: text(change.path.as_os_str().as_bytes()),
                kind: change.kind as u8,
            })
            .collect();
        output.json_list(&listed)?;
        return Ok(0);
    }
    for change in changes {
        let verb = match change.kind {
            Kind::Modify => "Modify",
            Kind::Add => "Add",
            Kind::Delete => "Delete",
        };
        output.line(format_args!(
            "{verb} {}",
            Quoted(change.path.as_os_str().as_bytes())
        ))?;
    }
    Ok(0)
}

/// `applydiff`.
fn apply(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    store.apply_diff(given.operand(0), input::open(given)?)?;
    output::print_nothing(given, output)
}

/// `applydiff-using-staging-dir`.
fn apply_directory(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    store.replace_contents(given.operand(0), &Dir::open(given.operand(1))?)?;
    output::print_nothing(given, output)
}
