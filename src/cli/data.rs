//! Commands on data items and directories of layers, images and containers.

use std::io::Write as _;
use std::path::Path;

use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::input;
use super::output::Output;
use crate::store::{BigDataItem, Kind, Store};
use crate::sys::File;

fn fail(kind: Kind, given: &Given) -> impl Fn(crate::store::Error) -> Failure {
    let key = given.operand(0).to_owned();
    move |error| match kind {
        Kind::Image => Failure::of_image(&key, error),
        Kind::Layer | Kind::Container => error.into(),
    }
}

/// `list-…-data`.
pub(super) fn list(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
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
pub(super) fn get(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let bytes = store
        .big_data(kind, given.operand(0), given.operand(1))
        .map_err(fail(kind, given))?;
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

/// `get-…-data-size`.
pub(super) fn size(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let size = store.big_data_size(kind, given.operand(0), given.operand(1));
    let size = size.map_err(fail(kind, given))?;
    // A number is the same as text and as JSON.
    output.line(size)?;
    Ok(0)
}

/// `get-…-data-digest`.
pub(super) fn digest(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let digest = store.big_data_digest(kind, given.operand(0), given.operand(1));
    print_text(digest.map_err(fail(kind, given))?.as_str(), given, output)
}

/// `set-…-data`.
pub(super) fn set(kind: Kind, store: &Store, given: &Given) -> Outcome {
    let item = BigDataItem::new(given.operand(1), input::read(given)?);
    store
        .set_big_data(kind, given.operand(0), item)
        .map_err(fail(kind, given))?;
    Ok(0)
}

/// `get-…-dir` and `get-…-run-dir`.
pub(super) fn directory(path: &Path, given: &Given, output: &mut Output) -> Outcome {
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
