//! The command line: a drop-in for `containers-storage`, and Strata's own commands.
//!
//! | File | What |
//! |---|---|
//! | [`commands`] | the table of commands: names, flags, operands |
//! | [`grammar`] | the peer's way of reading them |
//! | [`usage`], [`generate`] | usage texts; completion and manual page |
//! | [`output`], [`failure`] | the only code that prints; errors and exit codes |
//!
//! Only this module looks at the environment.

pub mod commands;
pub mod failure;
pub mod generate;
pub mod grammar;
pub mod output;
pub mod usage;

use std::process::ExitCode;

use commands::{Definition, Grammar};
use failure::{FAILED, Failure, MISUSED, Outcome};
use grammar::{Given, Misuse};
use output::Output;

/// Runs the command line of the process.
pub fn run() -> ExitCode {
    let mut output = Output::new();
    let outcome = dispatch(&mut output);
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
    match command.name {
        "completion" => generate::completion(given.operand(0), output),
        "help" => help(given.find_operand(0), output),
        "man" => generate::man(output),
        "version" => version(given, output),
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

fn version(given: &Given, output: &mut Output) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if given.has("json") {
        output.json(&[["Version", version]])?;
    } else {
        output.error_line(format_args!("Version: {version}"));
    }
    Ok(0)
}
