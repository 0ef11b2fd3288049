//! `check`: whether the store is whole, and the removal of what is damaged.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::definition::{Definition, Flag, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{duration, layers};
use crate::store::check::{CheckOptions, Problem, RepairError, RepairOptions, Report};
use crate::store::{Error, Kind, Store};

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::peer(
    "check",
    "Check that the store is whole, and remove what is damaged",
    Run::InStore(run),
)
.flags(&[
    &[
        Flag::switch(
            "force",
            Some('f'),
            "Repair, and remove damaged containers too",
        ),
        Flag::value(
            "max",
            Some('m'),
            "How long a layer may be unused (default 24h)",
        ),
        Flag::switch("quick", Some('q'), "Compare no files with their headers"),
        Flag::switch("repair", Some('r'), "Remove damaged images and layers"),
    ],
    output::JSON,
])];

type Part = BTreeMap<String, Vec<Problem>>;

/// The report in the peer's JSON, in which problems have no text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Printed<'a> {
    layers: Counts<'a>,
    #[serde(rename = "ROLayers")]
    read_only_layers: Counts<'a>,
    images: Counts<'a>,
    #[serde(rename = "ROImages")]
    read_only_images: Counts<'a>,
    containers: Counts<'a>,
}

/// A problem in the peer's JSON: Go's errors have no fields that would be printed.
#[derive(Clone, Serialize)]
struct Nothing {}

#[derive(Debug)]
struct Counts<'a>(&'a Part);

impl Serialize for Counts<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, problems) in self.0 {
            map.serialize_entry(id, &vec![Nothing {}; problems.len()])?;
        }
        map.end()
    }
}

/// `check`.
fn run(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let mut options = CheckOptions {
        compares_files: !given.has("quick"),
        ..CheckOptions::default()
    };
    if let Some(text) = given.filled("max") {
        options.unused_for = duration::parse(text).map_err(Failure::new)?;
    }
    let report = store.check(&options)?;
    print(&report, given, output)?;
    if report.is_clean() {
        return Ok(0);
    }
    let removes_containers = given.has("force");
    if !given.has("repair") && !removes_containers {
        output.error_line(format_args!(
            "{} layer errors, {} read-only layer errors, {} image errors, {} read-only image errors, \
             {} container errors",
            report.layers.len(),
            report.read_only_layers.len(),
            report.images.len(),
            report.read_only_images.len(),
            report.containers.len()
        ));
        return Ok(FAILED);
    }
    let failed = store.repair(&report, RepairOptions { removes_containers })?;
    if given.has("json") && !failed.is_empty() {
        output.json(&vec![Nothing {}; failed.len()])?;
    }
    for error in &failed {
        output.error_line(reason(store, error));
    }
    let containers = match removes_containers {
        true => 0,
        false => report.containers.len(),
    };
    let (layers, images) = (report.read_only_layers.len(), report.read_only_images.len());
    if failed.is_empty() && layers + images + containers > 0 {
        let mut text = format!("{layers} read-only layer errors, {images} read-only image errors");
        if !removes_containers {
            text.push_str(&format!(", {containers} container errors"));
        }
        output.error_line(text);
    }
    if containers > 0 {
        output.error_line("hint: --force removes damaged containers too, with what is in them");
    }
    let is_whole = failed.is_empty() && layers + images + containers == 0;
    Ok(if is_whole { 0 } else { FAILED })
}

/// Why something damaged stays, in the peer's words.
fn reason(store: &Store, error: &RepairError) -> String {
    let RepairError { kind, id, source } = error;
    let text = match (kind, source) {
        (Kind::Layer, Error::HasChildren) => match layers::child_of(store, id) {
            Some(child) => format!("used by layer {child}: {source}"),
            None => source.to_string(),
        },
        _ => Failure::from(source.clone()).text(),
    };
    format!("deleting {kind} {id}: {text}")
}

fn print(report: &Report, given: &Given, output: &mut Output) -> Result<(), Failure> {
    if given.has("json") {
        return output.json(&Printed {
            layers: Counts(&report.layers),
            read_only_layers: Counts(&report.read_only_layers),
            images: Counts(&report.images),
            read_only_images: Counts(&report.read_only_images),
            containers: Counts(&report.containers),
        });
    }
    for (kind, part) in [
        ("layer", &report.layers),
        ("read-only layer", &report.read_only_layers),
        ("image", &report.images),
        ("read-only image", &report.read_only_images),
        ("container", &report.containers),
    ] {
        for (id, problems) in part {
            output.line(format_args!("{kind} {id}:"))?;
            for problem in problems {
                output.line(format_args!(" {problem}"))?;
            }
        }
    }
    Ok(())
}
