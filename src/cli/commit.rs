//! `commit`: makes an image of a container.

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::session;
use crate::archive::retime::Times;
use crate::oci::commit::Change;
use crate::oci::{CommitError, CommitRequest, Committed, Reference, commit};
use crate::store::{Error, Kind, Store, Time};
use crate::sys::File;

const COMMIT: &[Flag] = &[
    Flag::value("author", Some('a'), "Author of the image"),
    Flag::values(
        "change",
        Some('c'),
        "Change of the image, as 'CMD [\"/bin/web\"]', 'ENV A=1', 'USER web'; may be given several times",
    ),
    Flag::value("message", Some('m'), "What the history says of it"),
    Flag::value(
        "timestamp",
        None,
        "When it was made, in seconds since 1970; its new files get this time too",
    ),
    Flag::value(
        "source-date-epoch",
        None,
        "When it was made, in seconds since 1970 ($SOURCE_DATE_EPOCH)",
    ),
    Flag::switch(
        "rewrite-timestamp",
        None,
        "Give new files that are younger than --source-date-epoch that time",
    ),
    Flag::switch(
        "squash",
        None,
        "Make one layer of all that is seen in the container",
    ),
    Flag::value("iidfile", None, "Write the image ID to this file"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "commit",
    "Make an image of what a container changed",
    Run::InStore(run),
)
.operands("CONTAINER [REFERENCE]", 1, 2)
.flags(&[COMMIT, output::JSON])];

/// What was made, as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    id: &'a str,
    digest: &'a str,
    names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<&'a str>,
    #[serde(rename = "layer-size")]
    layer_size: u64,
}

/// `commit`.
fn run(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let name = match given.find_operand(1) {
        Some(text) => Some(Reference::parse_local(text).map_err(|error| Failure::because(&error))?),
        None => None,
    };
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Failure::new(format!(
            "{}: a new image can't be named by a digest",
            given.operand(1)
        ))
        .advise("name a tag, as localhost/web:1"));
    }
    let changes = given
        .texts("change")
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Change>, _>>();
    let (created, times) = moment(given)?;
    let request = CommitRequest {
        container: given.operand(0).to_owned(),
        names: name.iter().map(Reference::storage_name).collect(),
        author: given.filled("author").map(str::to_owned),
        message: given.filled("message").map(str::to_owned),
        changes: changes.map_err(|error| Failure::because(&error))?,
        created,
        times,
        squash: given.has("squash"),
    };
    let committed = commit(store, &request).map_err(|error| failure(error, given.operand(0)))?;
    if let Some(path) = given.filled("iidfile") {
        write(path, &format!("sha256:{}", committed.image_id))?;
    }
    print(&committed, given, output)
}

fn print(committed: &Committed, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(&Printed {
            id: &committed.image_id,
            digest: committed.digest.as_str(),
            names: &committed.names,
            layer: committed.layer.as_deref(),
            layer_size: committed.layer_size,
        })?;
    } else {
        output.line(&committed.image_id)?;
    }
    Ok(0)
}

/// Writes a short text to a file that the user named.
pub(super) fn write(path: &str, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut file = File::create(path, 0o644)?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::new(format!("write {path}")).caused_by(&error))
}

/// When the image shall have been made, and what becomes of the times of its files; Buildah's flags.
fn moment(given: &Given) -> Result<(Option<Time>, Times), Failure> {
    let timestamp = given.filled("timestamp");
    let epoch = given.filled("source-date-epoch");
    if timestamp.is_some() && epoch.is_some() {
        return Err(Failure::new(
            "--timestamp and --source-date-epoch can't be used together",
        ));
    }
    if let Some(text) = timestamp {
        let seconds = seconds(text, "--timestamp")?;
        return Ok((Some(seconds.0), Times::Set(seconds.1.into())));
    }
    let (text, origin) = match epoch {
        Some(text) => (Some(text.to_owned()), "--source-date-epoch"),
        None => {
            let name = "SOURCE_DATE_EPOCH";
            (session::text_variable(name)?, name)
        }
    };
    let Some(text) = text else {
        if given.has("rewrite-timestamp") {
            return Err(Failure::new("--rewrite-timestamp needs a time")
                .advise("give --source-date-epoch, or set SOURCE_DATE_EPOCH"));
        }
        return Ok((None, Times::Kept));
    };
    let (time, seconds) = seconds(&text, origin)?;
    let times = match given.has("rewrite-timestamp") {
        true => Times::AtMost(seconds.into()),
        false => Times::Kept,
    };
    Ok((Some(time), times))
}

fn seconds(text: &str, origin: &str) -> Result<(Time, i64), Failure> {
    let number: Option<i64> = text.parse().ok();
    number
        .and_then(|seconds| Some((Time::from_seconds(seconds)?, seconds)))
        .ok_or_else(|| {
            Failure::new(format!("{origin}: {text:?} is not a time"))
                .advise("give seconds since 1970, as `date +%s` prints them")
        })
}

/// What went wrong, and the way out.
fn failure(error: CommitError, container: &str) -> Failure {
    match error {
        CommitError::Store(Error::Unknown(Kind::Container)) => {
            Failure::new(format!("{container}: {}", Error::Unknown(Kind::Container)))
                .advise("`strata containers` lists the containers")
        }
        CommitError::Store(error) if error.is_no_space() => {
            Failure::because(&error).advise("free some space; `strata gc` removes leftovers")
        }
        error => Failure::because(&error),
    }
}
