//! Command lines in the peer's grammar: global flags, a command, its flags, operands.

use strata::cli::commands;
use strata::cli::grammar::{Given, parse_command, parse_global};

use super::plant;

/// One argument a line.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let arguments: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut given = Given::default();
    let Ok(rest) = parse_global(arguments.clone(), &mut given) else {
        return;
    };
    assert!(
        arguments.ends_with(&rest),
        "operands are the end of the line"
    );
    let Some((name, rest)) = rest.split_first() else {
        return;
    };
    let Some(command) = commands::find(name) else {
        return;
    };
    if parse_command(command, rest.to_vec(), &mut given).is_err() {
        return;
    }
    assert!(
        rest.ends_with(&given.operands),
        "operands are the end of the line"
    );
    for flag in command.all_flags() {
        let texts = given.texts(flag.name);
        assert_eq!(
            given.text(flag.name).is_some(),
            !texts.is_empty(),
            "{}",
            flag.name
        );
    }
    plant::bug(
        given.texts("name").len() >= 2
            && given.has("json")
            && given.text("id").is_some_and(|id| id.len() > 2)
            && given.operands.len() >= 2,
    );
}
