//! The peer's grammar, which clap can't express: flags end at the first argument, a group of
//! letters is tried only when no flag has that whole name, `-n=value`, booleans with values, and
//! the peer's own texts.
//!
//! It reads the definitions of [`commands`]; Strata's own commands go through clap.

use std::ffi::OsString;

use super::commands::{self, GLOBAL};
use super::definition::{Definition, Flag, Takes};

/// What was given: flags by their long names, and operands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    flags: Vec<(&'static str, String)>,
    /// What is no flag.
    pub operands: Vec<String>,
}

/// Why a command line could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// `--help` or `-h`.
    Help,
    /// A bad flag, in the peer's words.
    Flag(String),
}

impl Given {
    /// Whether a switch is on.
    pub fn has(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// The last value of a flag.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|flag| flag.0 == name)
            .map(|flag| flag.1.as_str())
    }

    /// The last value, if it is not empty: most flags of the peer can't tell the two.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// All values of a flag.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.flags
            .iter()
            .filter(|flag| flag.0 == name)
            .map(|flag| flag.1.clone())
            .collect()
    }

    /// The n-th operand, which the table of commands says is there, or nothing.
    pub fn operand(&self, index: usize) -> &str {
        self.operands.get(index).map_or("", String::as_str)
    }

    /// The n-th operand if it is there and not empty.
    pub fn find_operand(&self, index: usize) -> Option<&str> {
        self.operands
            .get(index)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Sets a flag.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.flags.push((name, value.into()));
    }
}

/// Flags that are looked for.
struct Parser<'a> {
    flags: Vec<&'static Flag>,
    arguments: std::collections::VecDeque<String>,
    given: &'a mut Given,
}

/// The outcome of looking at one argument.
enum Step {
    /// It was a flag and has been taken in.
    Taken,
    /// Flags have ended.
    End,
    /// No flag has this name; its letters may.
    Letters(String),
}

impl Parser<'_> {
    fn find(&self, name: &str) -> Option<&'static Flag> {
        let by_name = |long: &str| {
            self.flags
                .iter()
                .find(|flag| flag.name == long || flag.aliases.contains(&long))
        };
        let by_letter = |letter: char| self.flags.iter().find(|flag| flag.letter == Some(letter));
        let mut letters = name.chars();
        match (name.strip_prefix('-'), letters.next(), letters.next()) {
            (Some(long), ..) => by_name(long).copied(),
            (None, Some(letter), None) => by_letter(letter).copied(),
            _ => None,
        }
    }

    fn step(&mut self) -> Result<Step, Misuse> {
        let Some(argument) = self.arguments.front() else {
            return Ok(Step::End);
        };
        let Some(name) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return Ok(Step::End);
        };
        let name = name.to_owned();
        self.arguments.pop_front();
        if name == "-" {
            return Ok(Step::End);
        }
        if name.starts_with('=') {
            return Err(Misuse::Flag(format!("bad flag syntax: -{name}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(unquote(value).to_owned())),
            None => (name, None),
        };
        let Some(flag) = self.find(&name) else {
            return match name.as_str() {
                "-help" | "help" | "h" => Err(Misuse::Help),
                _ if name.starts_with('-') => Err(undefined(&name)),
                _ => Ok(Step::Letters(name)),
            };
        };
        let value = match (flag.takes, value) {
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Nothing, Some(text)) => match truth(&text) {
                Some(truth) => truth.to_string(),
                None => {
                    return Err(Misuse::Flag(format!(
                        "invalid boolean value {text:?} for  -{name}: strconv.ParseBool: parsing \
                         {text:?}: invalid syntax"
                    )));
                }
            },
            (_, Some(value)) => value,
            (_, None) => self
                .arguments
                .pop_front()
                .ok_or_else(|| Misuse::Flag(format!("flag needs an argument: -{name}")))?,
        };
        self.given.set(flag.name, value);
        Ok(Step::Taken)
    }

    fn run(mut self) -> Result<Vec<String>, Misuse> {
        loop {
            match self.step()? {
                Step::Taken => {}
                Step::End => return Ok(self.arguments.into()),
                Step::Letters(name) if name.chars().count() > 1 => {
                    for letter in name.chars() {
                        self.arguments.push_front(format!("-{letter}"));
                        match self.step() {
                            Ok(Step::Taken) => {}
                            Err(Misuse::Help) => return Err(Misuse::Help),
                            _ => return Err(undefined(&name)),
                        }
                    }
                }
                Step::Letters(name) => return Err(undefined(&name)),
            }
        }
    }
}

fn undefined(name: &str) -> Misuse {
    Misuse::Flag(format!("flag provided but not defined: -{name}"))
}

/// A value without the quotes that surround it.
fn unquote(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// What Go accepts as a boolean.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Takes in the global flags before the command; what follows them is returned.
///
/// # Errors
/// When a flag is unknown or lacks its value.
pub fn parse_global(arguments: Vec<String>, given: &mut Given) -> Result<Vec<String>, Misuse> {
    Parser {
        flags: GLOBAL.iter().collect(),
        arguments: arguments.into(),
        given,
    }
    .run()
}

/// Takes in the flags after a command; what follows them are its operands.
///
/// # Errors
/// When a flag is unknown or lacks its value.
pub fn parse_command(
    command: &Definition,
    arguments: Vec<String>,
    given: &mut Given,
) -> Result<(), Misuse> {
    let parser = Parser {
        flags: command.all_flags().collect(),
        arguments: arguments.into(),
        given,
    };
    let operands = parser.run()?;
    given.operands = operands;
    Ok(())
}

/// Takes in what follows one of Strata's own commands, by clap.
///
/// # Errors
/// Clap's, also for `--help`.
pub fn parse_own(
    command: &Definition,
    arguments: Vec<String>,
    given: &mut Given,
) -> Result<(), Box<clap::Error>> {
    let name = format!("strata {}", command.name);
    let arguments = std::iter::once(name.clone()).chain(arguments);
    let matches = command
        .to_clap()
        .bin_name(name)
        .args(
            commands::global_args()
                .into_iter()
                .map(|arg| arg.help_heading("Global options")),
        )
        .try_get_matches_from(arguments)
        .map_err(Box::new)?;
    for flag in command.all_flags() {
        if flag.takes == Takes::Nothing {
            if matches.get_flag(flag.name) {
                given.set(flag.name, "true");
            }
            continue;
        }
        for value in matches.get_many::<String>(flag.name).into_iter().flatten() {
            given.set(flag.name, value);
        }
    }
    if command.most > 0 {
        given.operands = matches
            .get_many::<String>("operands")
            .into_iter()
            .flatten()
            .cloned()
            .collect();
    }
    Ok(())
}

/// Arguments as text.
///
/// # Errors
/// The first argument that is not UTF-8.
pub fn to_text(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>, OsString> {
    arguments.map(OsString::into_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(command: &str, line: &[&str]) -> Result<Given, Misuse> {
        let mut given = Given::default();
        let arguments = line.iter().map(ToString::to_string).collect();
        parse_command(commands::find(command).unwrap(), arguments, &mut given)?;
        Ok(given)
    }

    fn flag(text: &str) -> Misuse {
        Misuse::Flag(text.to_owned())
    }

    #[test]
    fn values_follow_a_space_or_an_equals_sign() {
        let given = parse(
            "create-layer",
            &["-n", "a", "-n=b", "--name=\"c\"", "--name", "'d'", "-i="],
        );
        let given = given.unwrap();
        assert_eq!(given.texts("name"), ["a", "b", "c", "'d'"]);
        assert_eq!(given.text("id"), Some(""));
        assert_eq!(given.filled("id"), None);
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        let given = parse("create-layer", &["-n", "--", "-n", "-x", "--id", "--json"]).unwrap();
        assert_eq!(given.texts("name"), ["--", "-x"]);
        assert_eq!(given.text("id"), Some("--json"));
        assert!(!given.has("json"));
    }

    #[test]
    fn flags_end_at_the_first_argument() {
        let given = parse("mount", &["-j", "a", "-r", "--bogus"]).unwrap();
        assert_eq!(given.operands, ["a", "-r", "--bogus"]);
        assert!(given.has("json") && !given.has("read-only"));
        assert_eq!(parse("mount", &["--", "-j"]).unwrap().operands, ["-j"]);
        assert_eq!(parse("mount", &["-", "-j"]).unwrap().operands, ["-", "-j"]);
    }

    #[test]
    fn letters_combine_and_the_last_may_take_a_value() {
        let given = parse("create-layer", &["-rjn", "x", "p"]).unwrap();
        assert!(given.has("readonly") && given.has("json"));
        assert_eq!(given.texts("name"), ["x"]);
        assert_eq!(given.operands, ["p"]);
        let error = parse("create-layer", &["-jx"]).unwrap_err();
        assert_eq!(error, flag("flag provided but not defined: -jx"));
    }

    #[test]
    fn booleans_take_what_go_takes() {
        let given = parse("create-layer", &["--readonly", "--readonly=F", "-j=1"]).unwrap();
        assert!(!given.has("readonly") && given.has("json"));
        let error = parse("layers", &["--json=maybe"]).unwrap_err();
        assert_eq!(
            error,
            flag(
                "invalid boolean value \"maybe\" for  --json: strconv.ParseBool: parsing \
                 \"maybe\": invalid syntax"
            )
        );
    }

    #[test]
    fn mistakes_are_named_as_the_peer_names_them() {
        let error = |line| parse("layers", line).unwrap_err();
        assert_eq!(
            error(&["--bogus=1"]),
            flag("flag provided but not defined: --bogus")
        );
        assert_eq!(error(&["-x"]), flag("flag provided but not defined: -x"));
        assert_eq!(error(&["--graph"]), flag("flag needs an argument: --graph"));
        assert_eq!(error(&["-g"]), flag("flag needs an argument: -g"));
        assert_eq!(error(&["-=x"]), flag("bad flag syntax: -=x"));
        assert_eq!(error(&["-h"]), Misuse::Help);
        assert_eq!(error(&["--help"]), Misuse::Help);
    }

    #[test]
    fn own_commands_take_flags_anywhere() {
        let mut given = Given::default();
        let pull = commands::find("pull").unwrap();
        let line = ["busybox", "--json", "-s", "vfs"]
            .map(String::from)
            .to_vec();
        parse_own(pull, line, &mut given).unwrap();
        assert_eq!(given.operands, ["busybox"]);
        assert_eq!(given.text("storage-driver"), Some("vfs"));
        assert!(given.has("json"));
        let line = vec!["--jsno".to_owned(), "x".to_owned()];
        assert!(
            parse_own(pull, line, &mut given)
                .unwrap_err()
                .to_string()
                .contains("--json")
        );
    }
}
