//! Usage texts in the peer's form: what a command is on stdout, its options on stderr.

use super::commands::{self, GLOBAL};
use super::definition::{Definition, Flag, Grammar, Run, Takes};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::Output;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "help",
    "Explain a command",
    Run::Alone(|given, output| help(given.find_operand(0), output)),
)
.operands("[command]", 0, 1)];

/// The usage of the program.
///
/// # Errors
/// When stdout can't be written.
pub fn program(output: &mut Output, given: &Given) -> Result<(), Failure> {
    output.line("Usage: strata command [options [...]]\n\nCommands:\n")?;
    for command in commands::all() {
        output.line(format_args!("  {:<28}  {}", command.name, command.summary))?;
    }
    output.line("\nOptions:")?;
    options(output, GLOBAL.iter(), given);
    Ok(())
}

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
    options(output, command.all_flags(), given);
    Ok(())
}

/// `help`.
fn help(name: Option<&str>, output: &mut Output) -> Outcome {
    let Some(name) = name else {
        program(output, &Given::default())?;
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

fn options(output: &mut Output, flags: impl Iterator<Item = &'static Flag>, given: &Given) {
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
    output.error_line(text);
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
