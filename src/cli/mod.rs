//! The command line: a drop-in for `containers-storage`, and Strata's own commands.
//!
//! | File | What |
//! |---|---|
//! | [`commands`], [`definition`] | all commands, gathered; what one is: names, flags, operands, and its function |
//! | [`grammar`] | the peer's way of reading them |
//! | [`usage`], [`generate`] | usage texts; completion and manual page |
//! | [`output`], [`failure`] | the only code that prints; errors and exit codes |
//! | [`session`], [`input`], `maps` | environment, configuration, the store; files and ID mappings that the user names |
//! | `layers`, `images`, `containers` | commands on one kind |
//! | `objects`, `data`, `mount`, `diff`, `copy` | commands on all kinds |
//! | `status`, `check`, `dedup` | commands on the store as a whole |
//! | `backup` | the whole store as one stream, and back |
//! | `du`, `picture` | who uses the space, and pictures of it |
//! | `duration` | lengths of time as the peer reads them |
//! | `pull`, `push`, `progress` | images from elsewhere and to there |
//! | `commit` | images of containers |
//! | `node` | the plugin |
//! | `unshare` | root of a user name space |
//! | `uninstall` | the question before the plugin is taken away |
//!
//! Commands on the store run in the calling thread, without a runtime.

mod authorities;
mod backup;
mod check;
pub mod commands;
mod commit;
mod containers;
mod copy;
mod data;
mod dedup;
pub mod definition;
mod diff;
mod du;
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
mod picture;
mod progress;
mod pull;
mod push;
pub mod session;
mod status;
pub mod tree;
mod uninstall;
mod unshare;
pub mod usage;

use std::process::ExitCode;

use definition::{Definition, Grammar, Run};
use failure::{FAILED, Failure, MISUSED, Outcome};
use grammar::{Given, Misuse};
use output::Output;
use usage::Asked;

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
        usage::program(output, &given, Asked::Not)?;
        return Ok(FAILED);
    }
    let mut arguments = match grammar::parse_global(arguments, &mut given) {
        Ok(arguments) => arguments,
        Err(Misuse::Help) => {
            usage::program(output, &given, Asked::For)?;
            return Ok(0);
        }
        Err(Misuse::Flag(text)) => {
            output.error_line(format_args!("{text}\nSee 'strata --help'."));
            output.line(format_args!("{text} while parsing arguments (1)"))?;
            usage::program(output, &given, Asked::Not)?;
            return Ok(FAILED);
        }
    };
    if arguments.is_empty() {
        usage::program(output, &given, Asked::Not)?;
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
    if given.has("unshare") {
        unshare::restart(output)?;
    }
    match command.run {
        Run::InStore(run) => run(&session::open(given)?, given, output),
        Run::Alone(run) => run(given, output),
    }
}
