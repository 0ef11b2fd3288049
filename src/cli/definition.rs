//! [`Definition`]: one command: its name, flags and operands, and the function that carries it out.
//!
//! The file of a family of commands defines them beside their code:
//!
//! ```text
//! pub(super) const COMMANDS: &[Definition] = &[
//!     Definition::peer("create-layer", "Create a new layer", Run::InStore(create))
//!         .alias(&["createlayer"])
//!         .operands("[parentLayerNameOrID]", 0, 1)
//!         .flags(&[NEW, NAMES, maps::FLAGS, output::JSON]),
//! ];
//! ```

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};

use super::commands::GLOBAL;
use super::failure::Outcome;
use super::grammar::Given;
use super::output::Output;
use crate::store::Store;

/// Any number of operands.
pub const MANY: usize = usize::MAX;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// One value; the last one counts.
    Value,
    /// One value each time, all of which count.
    Values,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, by which the program asks for it.
    pub name: &'static str,
    /// More long names.
    pub aliases: &'static [&'static str],
    /// Its letter.
    pub letter: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// What it does.
    pub help: &'static str,
}

impl Flag {
    const fn new(
        name: &'static str,
        letter: Option<char>,
        takes: Takes,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            letter,
            takes,
            help,
        }
    }

    /// A flag without a value.
    pub const fn switch(name: &'static str, letter: Option<char>, help: &'static str) -> Self {
        Self::new(name, letter, Takes::Nothing, help)
    }

    /// A flag with a value.
    pub const fn value(name: &'static str, letter: Option<char>, help: &'static str) -> Self {
        Self::new(name, letter, Takes::Value, help)
    }

    /// A flag that may be given several times, with a value each.
    pub const fn values(name: &'static str, letter: Option<char>, help: &'static str) -> Self {
        Self::new(name, letter, Takes::Values, help)
    }

    /// A flag whose value is one of these words.
    pub const fn one_of(
        name: &'static str,
        words: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, None, Takes::OneOf(words), help)
    }

    /// With more long names.
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(super) fn to_clap(self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .aliases(self.aliases)
            .help(self.help);
        let arg = match self.letter {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        let value_name = self
            .name
            .rsplit('-')
            .next()
            .unwrap_or(self.name)
            .to_uppercase();
        match self.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Value => arg.action(ArgAction::Set).value_name(value_name),
            Takes::Values => arg.action(ArgAction::Append).value_name(value_name),
            Takes::OneOf(words) => arg
                .action(ArgAction::Set)
                .value_parser(PossibleValuesParser::new(words)),
        }
    }
}

/// Whose grammar a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// The peer's: flags end at the first argument, usage errors are the peer's texts.
    Peer,
    /// That of clap: flags anywhere.
    Own,
}

/// What carries a command out.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// On the store, which is opened before.
    InStore(fn(&Store, &Given, &mut Output) -> Outcome),
    /// Without a store, or with one that the command opens by itself.
    Alone(fn(&Given, &mut Output) -> Outcome),
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Operands for the usage text.
    pub operands: &'static str,
    /// Fewest operands.
    pub least: usize,
    /// Most operands.
    pub most: usize,
    /// What it does.
    pub summary: &'static str,
    /// Its flags, in groups that commands share.
    pub flags: &'static [&'static [Flag]],
    /// Whose grammar.
    pub grammar: Grammar,
    /// What carries it out.
    pub run: Run,
}

impl Definition {
    const fn new(name: &'static str, summary: &'static str, grammar: Grammar, run: Run) -> Self {
        Self {
            name,
            aliases: &[],
            operands: "",
            least: 0,
            most: 0,
            summary,
            flags: &[],
            grammar,
            run,
        }
    }

    /// One of the peer's commands.
    pub const fn peer(name: &'static str, summary: &'static str, run: Run) -> Self {
        Self::new(name, summary, Grammar::Peer, run)
    }

    /// One of Strata's own commands.
    pub const fn own(name: &'static str, summary: &'static str, run: Run) -> Self {
        Self::new(name, summary, Grammar::Own, run)
    }

    /// With other spellings.
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With operands: their names for the usage text, the fewest and the most.
    pub const fn operands(mut self, names: &'static str, least: usize, most: usize) -> Self {
        self.operands = names;
        self.least = least;
        self.most = most;
        self
    }

    /// With flags.
    pub const fn flags(mut self, groups: &'static [&'static [Flag]]) -> Self {
        self.flags = groups;
        self
    }

    /// Flags of the command and global ones.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        GLOBAL
            .iter()
            .chain(self.flags.iter().flat_map(|group| group.iter()))
    }

    /// The command as clap knows it; global flags are added by whoever asks.
    pub fn to_clap(&self) -> Command {
        let mut command = Command::new(self.name)
            .about(self.summary)
            .visible_aliases(self.aliases)
            .args_override_self(true)
            .args(
                self.flags
                    .iter()
                    .flat_map(|group| group.iter())
                    .map(|flag| flag.to_clap()),
            );
        if self.most > 0 {
            command = command.arg(
                Arg::new("operands")
                    .value_name(self.operands.trim_matches(['[', ']']))
                    .num_args(self.least..=self.most)
                    .required(self.least > 0),
            );
        }
        command
    }
}
