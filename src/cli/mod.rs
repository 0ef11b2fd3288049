//! The command line: a drop-in for `containers-storage`, and Strata's own commands.
//!
//! | File | What |
//! |---|---|
//! | [`commands`] | the table of commands: names, flags, operands |
//! | [`grammar`] | the peer's way of reading them |
//! | [`usage`], [`generate`] | usage texts; completion and manual page |
//! | [`output`], [`failure`] | the only code that prints; errors and exit codes |
//! | [`session`], [`input`], `maps` | environment, configuration, the store; files and ID mappings that the user names |
//! | `layers`, `images`, `containers` | commands on one kind |
//! | `objects`, `data`, `mount`, `diff`, `copy` | commands on all kinds |
//! | `status`, `check` | commands on the store as a whole |
//! | `duration` | lengths of time as the peer reads them |
//! | `pull`, `push`, `progress` | images from elsewhere and to there |
//! | `commit` | images of containers |
//! | `node` | the plugin |
//! | `uninstall` | the question before the plugin is taken away |
//!
//! Commands on the store run in the calling thread, without a runtime.

mod authorities;
mod check;
pub mod commands;
mod commit;
mod containers;
mod copy;
mod data;
mod diff;
mod duration;
pub mod failure;
pub mod generate;
pub mod grammar;
mod images;
pub mod input;
mod layers;
mod maps;
mod mount;
mod node;
mod objects;
pub mod output;
mod owners;
mod progress;
mod pull;
mod push;
pub mod session;
mod status;
pub mod tree;
mod uninstall;
pub mod usage;

use std::process::ExitCode;

use commands::{Definition, Grammar};
use failure::{FAILED, Failure, MISUSED, Outcome};
use grammar::{Given, Misuse};
use output::Output;

use crate::store::{Kind, Store};
use crate::telemetry;

/// Runs the command line of the process.
pub fn run() -> ExitCode {
    let mut output = Output::new();
    let outcome = dispatch(&mut output);
    session::leave();
    let finished = output.finish();
    let code = match outcome.and_then(|code| finished.map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            failure.report(&mut output);
            // Stdout may be what failed.
            drop(output.finish());
            FAILED
        }
    };
    ExitCode::from(code)
}

fn dispatch(output: &mut Output) -> Outcome {
    let arguments = grammar::to_text(std::env::args_os().skip(1)).map_err(|argument| {
        Failure::new(format!("the argument {argument:?} is not valid UTF-8"))
    })?;
    let mut given = Given::default();
    if arguments.is_empty() {
        usage::program(output, &given)?;
        return Ok(FAILED);
    }
    let mut arguments = match grammar::parse_global(arguments, &mut given) {
        Ok(arguments) => arguments,
        Err(Misuse::Help) => {
            usage::program(output, &given)?;
            return Ok(0);
        }
        Err(Misuse::Flag(text)) => {
            output.error_line(format_args!("{text}\nSee 'strata --help'."));
            output.line(format_args!("{text} while parsing arguments (1)"))?;
            usage::program(output, &given)?;
            return Ok(FAILED);
        }
    };
    if arguments.is_empty() {
        usage::program(output, &given)?;
        return Ok(FAILED);
    }
    let name = arguments.remove(0);
    let Some(command) = commands::find(&name) else {
        output.line(format_args!("{name}: unrecognized command."))?;
        return Ok(FAILED);
    };
    match command.grammar {
        Grammar::Peer => peer(&name, command, arguments, given, output),
        Grammar::Own => own(command, arguments, given, output),
    }
}

/// Reads a command line as the peer does, with its texts and exit codes.
fn peer(
    name: &str,
    command: &Definition,
    arguments: Vec<String>,
    mut given: Given,
    output: &mut Output,
) -> Outcome {
    match grammar::parse_command(command, arguments, &mut given) {
        Ok(()) => {}
        Err(Misuse::Help) => {
            usage::command(output, command, &given)?;
            return Ok(MISUSED);
        }
        Err(Misuse::Flag(text)) => {
            output.error_line(format_args!("{text}\nSee 'strata {name} --help'."));
            return Ok(MISUSED);
        }
    }
    let count = given.operands.len();
    if count < command.least {
        output.line(format_args!("{name}: more arguments required."))?;
    } else if count > command.most {
        let operands = given.operands.join(" ");
        output.line(format_args!("{name}: too many arguments ([{operands}])."))?;
    } else {
        return execute(command, &given, output);
    }
    usage::command(output, command, &given)?;
    Ok(FAILED)
}

/// Reads a command line by clap: help is exit code 0 and a mistake 125.
fn own(
    command: &Definition,
    arguments: Vec<String>,
    mut given: Given,
    output: &mut Output,
) -> Outcome {
    match grammar::parse_own(command, arguments, &mut given) {
        Ok(()) => execute(command, &given, output),
        Err(error) if error.use_stderr() => {
            output.error_line(error.render().to_string().trim_end());
            Ok(MISUSED)
        }
        Err(help) => {
            output.line(help.render().to_string().trim_end())?;
            Ok(0)
        }
    }
}

fn execute(command: &Definition, given: &Given, output: &mut Output) -> Outcome {
    // The plugin has a logging set-up of its own.
    if given.has("debug") && command.name != "node" {
        telemetry::init("strata=debug", telemetry::Format::Text)
            .map_err(|error| Failure::because(&error))?;
    }
    match command.name {
        "completion" => generate::completion(given.operand(0), output),
        "help" => help(given.find_operand(0), output),
        "man" => generate::man(output),
        "config" => status::config(given, output),
        "node" => node::run(given),
        "uninstall-check" => uninstall::run(given, output),
        "pull" => pull::pull(given, output),
        "push" => push::push(given, output),
        "version" => {
            let version = ("Version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
            status::print_pairs(&[version], given, output)
        }
        name => in_store(name, &session::open(given)?, given, output),
    }
}

/// The commands that work on a store.
fn in_store(name: &str, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    use Kind::{Container, Image, Layer};
    match name {
        "add-names" => {
            objects::change_names(given, output, |key, names| store.add_names(key, names))
        }
        "applydiff" => diff::apply(store, given),
        "changes" => diff::changes(store, given, output),
        "check" => check::run(store, given, output),
        "commit" => commit::run(store, given, output),
        "container" => containers::examine(store, given, output),
        "container-parent-owners" => owners::list(Container, store, given, output),
        "containers" => containers::list(store, given, output),
        "copy" => copy::run(store, given),
        "create-container" => containers::create(store, given, output),
        "create-image" => images::create(store, given, output),
        "create-layer" => layers::create(store, given, output),
        "create-storage-layer" => layers::create_driver(store, given, output),
        "delete" => objects::delete(given, output, |key| Ok(store.delete(key)?)),
        "delete-container" => {
            objects::delete(given, output, |key| Ok(store.delete_container(key)?))
        }
        "delete-image" => images::delete(store, given, output),
        "delete-layer" => layers::delete(store, given, output),
        "diff" => diff::diff(store, given, output),
        "diffsize" => diff::size(store, given, output),
        "exists" => objects::exist(store, given, output),
        "gc" => status::collect_garbage(store, given, output),
        "get-container-data" => data::get(Container, store, given, output),
        "get-container-data-digest" => data::digest(Container, store, given, output),
        "get-container-data-size" => data::size(Container, store, given, output),
        "get-container-dir" => data::directory(
            store.container_directory(given.operand(0))?.path(),
            given,
            output,
        ),
        "get-container-run-dir" => data::directory(
            store.container_run_directory(given.operand(0))?.path(),
            given,
            output,
        ),
        "get-image-data" => data::get(Image, store, given, output),
        "get-image-data-digest" => data::digest(Image, store, given, output),
        "get-image-data-size" => data::size(Image, store, given, output),
        "get-image-dir" => {
            data::directory(&store.image_directory(given.operand(0))?, given, output)
        }
        "get-image-run-dir" => {
            data::directory(&store.image_run_directory(given.operand(0))?, given, output)
        }
        "get-layer-data" => data::get(Layer, store, given, output),
        "get-names" => objects::names(store, given, output),
        "image" => images::examine(store, given, output),
        "images" => images::list(store, given, output),
        "images-by-digest" => images::list_by_digest(store, given, output),
        "import-layer" => layers::import(store, given, output),
        "layer" => layers::examine(store, given, output),
        "layer-parent-owners" => owners::list(Layer, store, given, output),
        "layers" => layers::list(store, given, output),
        "list-container-data" => data::list(Container, store, given, output),
        "list-image-data" => data::list(Image, store, given, output),
        "list-layer-data" => data::list(Layer, store, given, output),
        "metadata" => objects::metadata(store, given, output),
        "mount" => mount::mount(store, given, output),
        "mounted" => mount::mounted(store, given, output),
        "remove-names" => {
            objects::change_names(given, output, |key, names| store.remove_names(key, names))
        }
        "set-container-data" => data::set(Container, store, given),
        "set-image-data" => data::set(Image, store, given),
        "set-layer-data" => data::set(Layer, store, given),
        "set-metadata" => objects::set_metadata(store, given),
        "set-names" => {
            objects::change_names(given, output, |key, names| store.set_names(key, names))
        }
        "shutdown" => {
            let result = store.shutdown(given.has("force")).map(drop);
            status::finish("shutdown", result, given, output)
        }
        "storage-layers" => layers::list_driver(store, given, output),
        "status" => status::print_pairs(&store.status()?, given, output),
        "unmount" => mount::unmount(store, given, output),
        "wipe" => status::finish("wipe", store.wipe(), given, output),
        name => Err(Failure::new(format!("{name}: unrecognized command."))),
    }
}

fn help(name: Option<&str>, output: &mut Output) -> Outcome {
    let Some(name) = name else {
        usage::program(output, &Given::default())?;
        return Ok(0);
    };
    match commands::find(name) {
        Some(command) if command.grammar == Grammar::Own => {
            own(command, vec!["--help".to_owned()], Given::default(), output)
        }
        Some(command) => {
            usage::command(output, command, &Given::default())?;
            Ok(0)
        }
        None => Err(Failure::new(format!("{name}: unrecognized command."))
            .advise("`strata help` lists the commands")),
    }
}
