//! Mounting, unmounting, and whether something is mounted.

use serde::Serialize;

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use crate::store::driver::MountOptions;
use crate::store::{Error, Kind, Store};

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "mount",
        "Mount a layer or container, or an image read-only",
        Run::InStore(mount),
    )
    .operands("LayerOrContainerNameOrID [...]", 1, MANY)
    .flags(&[
        &[
            Flag::value("label", Some('l'), "Mount label"),
            Flag::value("opt", Some('o'), "Mount options (ignored)"),
            Flag::switch("read-only", Some('r'), "Mount an image, read-only").alias(&["ro"]),
        ],
        output::JSON,
    ]),
    Definition::peer(
        "unmount",
        "Unmount a layer, image or container",
        Run::InStore(unmount),
    )
    .alias(&["umount"])
    .operands("LayerOrImageOrContainerNameOrID [...]", 1, MANY)
    .flags(&[
        &[Flag::switch(
            "force",
            Some('f'),
            "Unmount whatever the count says",
        )],
        output::JSON,
    ]),
    Definition::peer(
        "mounted",
        "Check if a layer or container is mounted",
        Run::InStore(mounted),
    )
    .operands("LayerOrContainerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
];

/// What became of one mount, in the peer's JSON.
#[derive(Debug, Serialize)]
struct Mounted<'a> {
    id: &'a str,
    mountpoint: String,
    error: String,
}

/// What became of another question, in the peer's JSON.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    id: &'a str,
    error: String,
}

/// `mount`.
fn mount(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let options = MountOptions {
        label: given.filled("label").map(str::to_owned),
        ..MountOptions::default()
    };
    let mut results = Vec::new();
    for key in &given.operands {
        let result = if given.has("read-only") {
            store
                .mount_image(key, &options)
                .map_err(|error| Failure::of_image(key, error))
        } else {
            store.mount(key, &options).map_err(Failure::from)
        };
        results.push(match result {
            Ok(path) => Mounted {
                id: key,
                mountpoint: path.display().to_string(),
                error: String::new(),
            },
            Err(failure) => Mounted {
                id: key,
                mountpoint: String::new(),
                error: failure.text(),
            },
        });
    }
    let code = if results.iter().all(|result| result.error.is_empty()) {
        0
    } else {
        FAILED
    };
    if given.has("json") {
        output.json(&results)?;
        return Ok(code);
    }
    for result in results {
        output.line(&result.mountpoint)?;
        if !result.error.is_empty() {
            output.error_line(format_args!(
                "{} while mounting {}",
                result.error, result.id
            ));
        }
    }
    Ok(code)
}

/// `unmount`.
fn unmount(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut results = Vec::new();
    for key in &given.operands {
        let error = match store.unmount(key, given.has("force")) {
            Ok(is_held) => {
                // The peer is silent about images.
                if !is_held && !is_image(store, key) {
                    output.line(format_args!("{key} mountpoint unmounted"))?;
                }
                String::new()
            }
            Err(error) => Failure::from(error).text(),
        };
        if !error.is_empty() && !given.has("json") {
            output.error_line(format_args!("{error} while unmounting {key}"));
        }
        results.push(Answered { id: key, error });
    }
    finish(&results, given, output)
}

/// True when a key that was unmounted is an image's.
fn is_image(store: &Store, key: &str) -> bool {
    matches!(store.find_container(key), Ok(None))
        && matches!(store.lookup(key), Ok((Kind::Image, _)))
}

/// `mounted`.
fn mounted(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut results = Vec::new();
    for key in &given.operands {
        let error = match store.mounted(key) {
            Ok(count) => {
                if count > 0 {
                    output.line(format_args!("{key} mounted"))?;
                }
                String::new()
            }
            Err(error) => text_of(error),
        };
        if !error.is_empty() && !given.has("json") {
            output.error_line(format_args!("{error} checking if {key} is mounted"));
        }
        results.push(Answered { id: key, error });
    }
    finish(&results, given, output)
}

fn text_of(error: Error) -> String {
    Failure::from(error).text()
}

fn finish(results: &[Answered<'_>], given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(results)?;
    }
    Ok(if results.iter().all(|result| result.error.is_empty()) {
        0
    } else {
        FAILED
    })
}
