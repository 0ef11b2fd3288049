//! `export` and `import`: a store as one tar stream, and back.

use std::io::IsTerminal as _;

use serde::Serialize;

use super::definition::{Definition, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::input;
use super::output::{self, Output, OutputFile};
use crate::store::Store;
use crate::store::backup::{BackupError, Counts};
use crate::sys::File;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::own(
        "export",
        "Write all layers, images and containers as one tar stream",
        Run::InStore(export),
    )
    .flags(&[output::FILE, output::JSON]),
    Definition::own(
        "import",
        "Put what `strata export` wrote into the store",
        Run::InStore(import),
    )
    .flags(&[input::FILE, output::JSON]),
];

/// What was written, or came.
#[derive(Debug, Serialize)]
struct Printed {
    layers: u64,
    images: u64,
    containers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<Counts>,
}

impl Printed {
    fn new(counts: Counts, present: Option<Counts>) -> Self {
        Self {
            layers: counts.layers,
            images: counts.images,
            containers: counts.containers,
            present,
        }
    }
}

fn text(counts: Counts) -> String {
    let of = |count: u64, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}, {}, {}",
        of(counts.layers, "layer"),
        of(counts.images, "image"),
        of(counts.containers, "container")
    )
}

/// `export`: the stream is on stdout or in a file, and what is in it on the other side.
fn export(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let Some(path) = given.filled("file") else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::new("the backup is not for a terminal")
                .advise("name a file with --file, or pipe it: strata export | zstd > FILE"));
        }
        let counts = store.export(output.stream()).map_err(failure)?;
        // What was exported is told beside the stream.
        match given.has("json") {
            true => output.error_line(output::to_json(&Printed::new(counts, None))?),
            false => output.error_line(text(counts)),
        }
        return Ok(0);
    };
    let mut file = OutputFile(File::create(path, 0o600)?);
    let counts = store.export(&mut file).map_err(failure)?;
    file.0.sync_data()?;
    print(counts, None, given, output)
}

/// `import`.
fn import(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let imported = store.import(input::open(given)?).map_err(failure)?;
    print(imported.new, Some(imported.present), given, output)
}

fn print(counts: Counts, present: Option<Counts>, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(&Printed::new(counts, present))?;
        return Ok(0);
    }
    output.line(text(counts))?;
    if let Some(present) = present.filter(|present| *present != Counts::default()) {
        output.line(format_args!("{} were there already", text(present)))?;
    }
    Ok(0)
}

fn failure(error: BackupError) -> Failure {
    match error {
        BackupError::Write(error) => Failure::stdout(error),
        BackupError::Store(error) => error.into(),
        BackupError::Conflict { .. } => Failure::because(&error)
            .advise("import into an empty store: strata --graph DIR --run DIR import"),
        error => Failure::because(&error),
    }
}
