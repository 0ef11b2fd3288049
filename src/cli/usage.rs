//! Usage texts in the peer's form: what a command is on stdout, its options on stderr.

use super::commands::{self, GLOBAL};
use super::definition::{Definition, Flag, Grammar, Run, Takes};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::Output;
use super::session;
use crate::store::Config;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "help",
    "Explain a command",
    Run::Alone(|given, output| help(given.find_operand(0), output)),
)
.operands("[command]", 0, 1)];

/// Where the options of the program are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// On stdout: somebody wanted to know.
    For,
    /// On stderr: somebody is told that something is missing or wrong.
    Not,
}

/// The usage of the program.
///
/// # Errors
/// When stdout can't be written.
pub fn program(output: &mut Output, given: &Given, asked: Asked) -> Result<(), Failure> {
    output.line("Usage: strata command [options [...]]\n\nCommands:\n")?;
    for command in commands::all() {
        output.line(format_args!("  {:<28}  {}", command.name, command.summary))?;
    }
    output.line("\nOptions:")?;
    let text = options(GLOBAL.iter().chain([&HELP]), given);
    match asked {
        Asked::For => output.line(text),
        Asked::Not => {
            output.error_line(text);
            Ok(())
        }
    }
}

/// In the list of options alone: the parser knows it without.
const HELP: Flag = Flag::switch("help", None, "Print usage");

/// The usage of one command.
///
/// # Errors
/// When stdout can't be written.
pub fn command(output: &mut Output, command: &Definition, given: &Given) -> Result<(), Failure> {
    let operands = if command.operands.is_empty() { "" } else { " " };
    output.line(format_args!(
        "Usage: strata {} [options [...]]{operands}{}\n\n{}\n\nOptions:",
        command.name, command.operands, command.summary
    ))?;
    output.error_line(options(command.all_flags(), &with_defaults(given)));
    Ok(())
}

/// What is given, and the roots and the driver that count when they are not.
fn with_defaults(given: &Given) -> Given {
    let mut shown = given.clone();
    // A configuration that can't be used has no say here; commands that use it say why.
    let loaded = session::environment().map(|environment| Config::load(&environment));
    let Ok(Ok(mut config)) = loaded else {
        return shown;
    };
    let decisive = ["graph", "run", "storage-driver", "storage-opt"];
    if decisive.iter().any(|flag| given.text(flag).is_some()) {
        // Of the configuration the roots alone count then.
        (config.driver, config.options) = (None, Vec::new());
    }
    let path = |path: &std::path::Path| path.display().to_string();
    for (flag, value) in [
        ("graph", path(&config.graph_root)),
        ("run", path(&config.run_root)),
        ("storage-driver", config.driver.unwrap_or_default()),
        (
            "image-store",
            config.image_store.as_deref().map(path).unwrap_or_default(),
        ),
    ] {
        if shown.text(flag).is_none() {
            shown.set(flag, value);
        }
    }
    if shown.text("storage-opt").is_none() {
        for option in config.options {
            shown.set("storage-opt", option);
        }
    }
    shown
}

/// `help`.
fn help(name: Option<&str>, output: &mut Output) -> Outcome {
    let Some(name) = name else {
        program(output, &Given::default(), Asked::For)?;
        return Ok(0);
    };
    match commands::find(name) {
        Some(found) if found.grammar == Grammar::Own => {
            super::own(found, vec!["--help".to_owned()], Given::default(), output)
        }
        Some(found) => {
            command(output, found, &Given::default())?;
            Ok(0)
        }
        None => Err(Failure::new(format!("{name}: unrecognized command."))
            .advise("`strata help` lists the commands")),
    }
}

fn options<'a>(flags: impl Iterator<Item = &'a Flag>, given: &Given) -> String {
    let mut rows: Vec<(String, &str)> = flags
        .map(|flag| (spelling(flag, given), flag.help))
        .collect();
    rows.sort();
    let width = rows
        .iter()
        .map(|row| row.0.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (spelling, help) in rows {
        text.push_str(&format!("\n  {spelling:<width$}    {help}"));
    }
    text
}

/// All names of a flag, and its value if it has one.
fn spelling(flag: &Flag, given: &Given) -> String {
    let mut names: Vec<String> = flag
        .aliases
        .iter()
        .chain([&flag.name])
        .map(|name| format!("--{name}"))
        .collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names.extend(flag.letter.map(|letter| format!("-{letter}")));
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Values => format!("=[{}]", given.texts(flag.name).join(" ")),
        Takes::Value | Takes::OneOf(_) => match given.filled(flag.name) {
            Some(value) => format!("={value}"),
            None => String::new(),
        },
    };
    names.join(", ") + &value
}
