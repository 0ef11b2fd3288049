//! `du` and `tree`: who uses the space of a store, and what stands on what.

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::picture::{self, Node, Subject, dot, short, size, svg, text};
use crate::store::Store;
use crate::store::usage::{Bytes, LayerUsage, ObjectUsage, Usage};

const FORMAT: &[Flag] = &[Flag::one_of(
    "format",
    &["text", "json", "dot", "svg"],
    "What to print: text, JSON, a graph for Graphviz, or a drawing",
)];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::own(
        "du",
        "Say who uses the space: what each layer, image and container has alone, and what it shares",
        Run::InStore(du),
    )
    .flags(&[FORMAT, output::JSON]),
    Definition::own(
        "tree",
        "Draw layers, and the images and containers that stand on them",
        Run::InStore(tree),
    )
    .flags(&[FORMAT, output::JSON]),
];

/// All of it as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    total: u64,
    unused: u64,
    images: Vec<PrintedObject<'a>>,
    containers: Vec<PrintedObject<'a>>,
    layers: Vec<PrintedLayer<'a>>,
}

#[derive(Debug, Serialize)]
struct PrintedObject<'a> {
    id: &'a str,
    names: &'a [String],
    layers: &'a [String],
    own: u64,
    shared: u64,
}

#[derive(Debug, Serialize)]
struct PrintedLayer<'a> {
    id: &'a str,
    parent: &'a str,
    names: &'a [String],
    own: u64,
    shared: u64,
    used: bool,
}

impl<'a> From<&'a ObjectUsage> for PrintedObject<'a> {
    fn from(object: &'a ObjectUsage) -> Self {
        Self {
            id: &object.id,
            names: &object.names,
            layers: &object.tops,
            own: object.bytes.own,
            shared: object.bytes.shared,
        }
    }
}

impl<'a> From<&'a LayerUsage> for PrintedLayer<'a> {
    fn from(layer: &'a LayerUsage) -> Self {
        Self {
            id: &layer.id,
            parent: &layer.parent,
            names: &layer.names,
            own: layer.bytes.own,
            shared: layer.bytes.shared,
            used: layer.is_used,
        }
    }
}

fn format(given: &Given) -> &str {
    match given.text("format") {
        None if given.has("json") => "json",
        None => "text",
        Some(format) => format,
    }
}

fn print_json(usage: &Usage, output: &mut Output) -> Result<(), Failure> {
    output.json(&Printed {
        total: usage.total,
        unused: usage.unused,
        images: usage.images.iter().map(PrintedObject::from).collect(),
        containers: usage.containers.iter().map(PrintedObject::from).collect(),
        layers: usage.layers.iter().map(PrintedLayer::from).collect(),
    })
}

/// `tree`.
fn tree(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let usage = store.usage()?;
    let nodes = picture::arrange(&usage);
    match format(given) {
        "json" => print_json(&usage, output)?,
        "dot" => output.bytes(dot::draw(&nodes).as_bytes())?,
        "svg" => output.bytes(svg::draw(&title(store, &usage), &nodes, true).as_bytes())?,
        _ => output.bytes(text::draw(&nodes).as_bytes())?,
    }
    Ok(0)
}

/// `du`.
fn du(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let usage = store.usage()?;
    let mut nodes = picture::arrange(&usage);
    match format(given) {
        "json" => print_json(&usage, output)?,
        "dot" => output.bytes(dot::draw(&nodes).as_bytes())?,
        "svg" => {
            sort(&mut nodes);
            output.bytes(svg::draw(&title(store, &usage), &nodes, false).as_bytes())?;
        }
        _ => {
            sort(&mut nodes);
            print_table(&usage, &nodes, output)?;
        }
    }
    Ok(0)
}

fn title(store: &Store, usage: &Usage) -> String {
    let root = store.config().graph_root.display();
    let total = size(usage.total);
    match usage.unused {
        0 => format!("{root}: {total}"),
        unused => {
            let unused = size(unused);
            format!("{root}: {total}, of which {unused} in layers that nobody needs")
        }
    }
}

/// Images, then containers, then layers; who has most comes first.
fn sort(nodes: &mut [Node<'_>]) {
    nodes.sort_by_key(|node| {
        let kind = match node.subject {
            Subject::Image => 0,
            Subject::Container => 1,
            Subject::Layer => 2,
        };
        (kind, std::cmp::Reverse(node.bytes.own), node.id.to_owned())
    });
}

fn print_table(usage: &Usage, nodes: &[Node<'_>], output: &mut Output) -> Result<(), Failure> {
    output.line(format_args!(
        "{:<9}  {:<12}  {:>10}  {:>10}  NAMES",
        "KIND", "ID", "OWN", "SHARED"
    ))?;
    for node in nodes {
        let Bytes { own, shared } = node.bytes;
        let mut names = node.names.join(", ");
        if node.is_unused {
            names.push_str(if names.is_empty() {
                "(unused)"
            } else {
                " (unused)"
            });
        }
        let line = format!(
            "{:<9}  {:<12}  {:>10}  {:>10}  {names}",
            node.subject.as_str(),
            short(node.id),
            size(own),
            size(shared)
        );
        output.line(line.trim_end())?;
    }
    output.line(format_args!(
        "{:<9}  {:<12}  {:>10}",
        "total",
        "",
        size(usage.total)
    ))?;
    output.line(format_args!(
        "{:<9}  {:<12}  {:>10}  in layers that no image and no container needs",
        "unused",
        "",
        size(usage.unused)
    ))
}
