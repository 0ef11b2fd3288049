//! The store as a whole: status, configuration, shutdown, wiping, garbage.

use std::path::PathBuf;

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::session;
use crate::store::{Config, Error, Store};

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "status",
        "Print where the store is and how its driver works",
        Run::InStore(|store, given, output| print_pairs(&store.status()?, given, output)),
    )
    .flags(&[output::JSON]),
    Definition::peer(
        "config",
        "Print the effective configuration as JSON",
        Run::Alone(config),
    )
    .operands("[file]", 0, 1)
    .flags(&[output::JSON]),
    Definition::peer(
        "gc",
        "Remove what crashes have left behind",
        Run::InStore(collect_garbage),
    )
    .flags(&[output::JSON]),
    Definition::peer("shutdown", "Shut the store down", Run::InStore(shutdown)).flags(&[
        &[Flag::switch(
            "force",
            Some('f'),
            "Unmount mounted layers first",
        )],
        output::JSON,
    ]),
    Definition::peer(
        "wipe",
        "Delete all layers, images and containers",
        Run::InStore(|store, given, output| finish("wipe", store.wipe(), given, output)),
    )
    .flags(&[output::JSON]),
    Definition::peer("version", "Print the version", Run::Alone(version)).flags(&[output::JSON]),
];

/// `status` and `version`: lines on stderr, or JSON pairs on stdout.
fn print_pairs(pairs: &[(String, String)], given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(pairs)?;
        return Ok(0);
    }
    for (key, value) in pairs {
        output.error_line(format_args!("{key}: {value}"));
    }
    Ok(0)
}

/// `shutdown`, `wipe`, `gc`: nothing, or a JSON that says little.
fn finish(command: &str, result: Result<(), Error>, given: &Given, output: &mut Output) -> Outcome {
    match result {
        Ok(()) => output::print_nothing(given, output),
        Err(error) => {
            if given.has("json") {
                // Go's errors have no fields that would be printed.
                output.line("{}")?;
            } else {
                output.error_line(format_args!("{command}: {}", Failure::from(error).text()));
            }
            Ok(FAILED)
        }
    }
}

fn version(given: &Given, output: &mut Output) -> Outcome {
    let version = ("Version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    print_pairs(&[version], given, output)
}

fn shutdown(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let result = store.shutdown(given.has("force")).map(drop);
    finish("shutdown", result, given, output)
}

/// `gc`.
fn collect_garbage(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let collected = store
        .collect_unfinished(0, |_| false)
        .and_then(|_| store.collect_garbage());
    finish("gc", collected.map(drop), given, output)
}

/// A configuration in the peer's JSON.
#[derive(Debug, Serialize)]
struct PrintedConfig<'a> {
    runroot: &'a PathBuf,
    #[serde(rename = "root")]
    graph_root: &'a PathBuf,
    #[serde(rename = "imagestore", skip_serializing_if = "Option::is_none")]
    image_store: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'a str,
    #[serde(rename = "driver-priority", skip_serializing_if = "<[_]>::is_empty")]
    driver_priority: &'a [String],
    #[serde(rename = "driver-options", skip_serializing_if = "<[_]>::is_empty")]
    options: &'a [String],
    #[serde(rename = "root_auto_ns_user", skip_serializing_if = "str::is_empty")]
    automatic_user: &'a str,
    #[serde(rename = "auto_userns_min_size", skip_serializing_if = "is_zero")]
    automatic_min_size: u32,
    #[serde(rename = "auto_userns_max_size", skip_serializing_if = "is_zero")]
    automatic_max_size: u32,
    #[serde(rename = "PullOptions")]
    pull_options: Option<std::collections::BTreeMap<&'a str, &'a str>>,
    #[serde(
        rename = "disable-volatile",
        skip_serializing_if = "std::ops::Not::not"
    )]
    ignores_volatile: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    transient_store: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `config`: what counts, of the flags or of the files; with a file, what it says.
fn config(given: &Given, output: &mut Output) -> Outcome {
    let config = match given.find_operand(0) {
        None => session::config(given)?,
        Some(file) => {
            let mut environment = session::environment()?;
            environment.config_file = Some(file.into());
            Config::load(&environment).map_err(|error| Failure::because(&error))?
        }
    };
    let pull = config
        .pull_options
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    output.json(&PrintedConfig {
        runroot: &config.run_root,
        graph_root: &config.graph_root,
        image_store: config.image_store.as_ref(),
        driver: config.driver.as_deref().unwrap_or_default(),
        driver_priority: &config.driver_priority,
        options: &config.listed_options(),
        automatic_user: config.automatic_user.as_deref().unwrap_or_default(),
        automatic_min_size: config.automatic_min_size,
        automatic_max_size: config.automatic_max_size,
        pull_options: Some(pull).filter(|pull: &std::collections::BTreeMap<_, _>| !pull.is_empty()),
        ignores_volatile: config.ignores_volatile,
        transient_store: config.is_transient,
    })?;
    Ok(0)
}
