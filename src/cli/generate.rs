//! Completion scripts and the manual page, from the same table as the parser.

use clap_complete::Shell;

use super::commands;
use super::definition::{Definition, Run};
use super::failure::{Failure, Outcome};
use super::output::Output;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::own(
        "completion",
        "Print a completion script: bash, zsh or fish",
        Run::Alone(|given, output| completion(given.operand(0), output)),
    )
    .operands("SHELL", 1, 1),
    Definition::own(
        "man",
        "Print the manual page",
        Run::Alone(|_, output| man(output)),
    ),
];

/// Prints a completion script.
///
/// # Errors
/// When the shell is not known or stdout can't be written.
pub fn completion(shell: &str, output: &mut Output) -> Outcome {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(
                Failure::new(format!("completion: no script for the shell {other:?}"))
                    .advise("name bash, zsh or fish"),
            );
        }
    };
    clap_complete::generate(shell, &mut commands::root(), "strata", output.stream());
    Ok(0)
}

/// Prints the manual page: the program and all of its commands.
///
/// # Errors
/// When stdout can't be written.
pub fn man(output: &mut Output) -> Outcome {
    let mut root = commands::root();
    root.build();
    let page = clap_mangen::Man::new(root.clone());
    let stream = output.stream();
    page.render(stream).map_err(Failure::stdout)?;
    for command in root.get_subcommands() {
        if command.get_name() == "help" {
            continue;
        }
        let page = clap_mangen::Man::new(command.clone());
        let name = command.get_name().replace('-', "\\-");
        let heading = format!(".SH \"STRATA {}\"\n", name.to_uppercase());
        std::io::Write::write_all(stream, heading.as_bytes()).map_err(Failure::stdout)?;
        page.render_synopsis_section(stream)
            .map_err(Failure::stdout)?;
        page.render_description_section(stream)
            .map_err(Failure::stdout)?;
        page.render_options_section(stream)
            .map_err(Failure::stdout)?;
    }
    Ok(0)
}
