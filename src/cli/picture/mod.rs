//! Pictures of a store: what stands on what, and how much of the disk it has.
//!
//! | File | What |
//! |---|---|
//! | [`text`] | a tree of lines |
//! | [`dot`] | a graph for Graphviz |
//! | [`svg`] | a drawing, with a bar for each object |

pub mod dot;
pub mod svg;
pub mod text;

use std::collections::{BTreeMap, HashSet};

use crate::store::usage::{Bytes, Usage};

/// What a line of a picture is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A layer.
    Layer,
    /// An image.
    Image,
    /// A container.
    Container,
}

impl Subject {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Container => "container",
        }
    }
}

/// One object in a picture.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// What it is.
    pub subject: Subject,
    /// Its ID.
    pub id: &'a str,
    /// Its names.
    pub names: &'a [String],
    /// What it has of the disk.
    pub bytes: Bytes,
    /// How many levels below the bottom of its tree it is drawn.
    pub depth: usize,
    /// The place of what it stands on.
    pub on: Option<usize>,
    /// More that it stands on: an image may have copies of its top layer for other owners.
    pub also_on: Vec<usize>,
    /// True for the last one on what it stands on.
    pub is_last: bool,
    /// True for a layer that no image and no container needs.
    pub is_unused: bool,
}

impl Node<'_> {
    /// Its ID, shortened as users know it, and its names.
    pub fn label(&self) -> String {
        let mut label = short(self.id).to_owned();
        for name in self.names {
            label.push(' ');
            label.push_str(name);
        }
        label
    }
}

/// The beginning of a drawn ID, which is unique enough; one that somebody chose stays whole.
pub fn short(id: &str) -> &str {
    let is_drawn = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_drawn { &id[..12] } else { id }
}

/// All objects, each after what it stands on, in the order in which they are drawn.
pub fn arrange<'a>(usage: &'a Usage) -> Vec<Node<'a>> {
    let known: HashSet<&str> = usage.layers.iter().map(|layer| &*layer.id).collect();
    let below = |id: &'_ str| {
        if known.contains(id) {
            id.to_owned()
        } else {
            String::new()
        }
    };
    let mut on: BTreeMap<String, Vec<Node<'a>>> = BTreeMap::new();
    let unused = usage.layers.iter().filter(|layer| !layer.is_used);
    let unused: HashSet<&str> = unused.map(|layer| &*layer.id).collect();
    let mut put = |parent: String, subject, id: &'a str, names, bytes| {
        on.entry(parent).or_default().push(Node {
            subject,
            id,
            names,
            bytes,
            depth: 0,
            on: None,
            also_on: Vec::new(),
            is_last: false,
            is_unused: subject == Subject::Layer && unused.contains(id),
        });
    };
    for (subject, objects) in [
        (Subject::Image, &usage.images),
        (Subject::Container, &usage.containers),
    ] {
        for object in objects {
            let top = object.tops.first().map_or("", String::as_str);
            put(below(top), subject, &object.id, &object.names, object.bytes);
        }
    }
    for layer in &usage.layers {
        put(
            below(&layer.parent),
            Subject::Layer,
            &layer.id,
            &layer.names,
            layer.bytes,
        );
    }
    let mut arranged: Vec<Node<'a>> = Vec::new();
    // Chains may be longer than a thread's stack, so this keeps its own.
    let mut ahead: Vec<Node<'a>> = Vec::new();
    let mut add = |ahead: &mut Vec<Node<'a>>, key: &str, depth: usize, place: Option<usize>| {
        let mut nodes = on.remove(key).unwrap_or_default();
        if let Some(last) = nodes.last_mut() {
            last.is_last = true;
        }
        ahead.extend(nodes.into_iter().rev().map(|node| Node {
            depth,
            on: place,
            ..node
        }));
    };
    add(&mut ahead, "", 0, None);
    while let Some(node) = ahead.pop() {
        let (id, depth, place) = (node.id, node.depth, arranged.len());
        let is_layer = node.subject == Subject::Layer;
        arranged.push(node);
        if is_layer {
            add(&mut ahead, id, depth + 1, Some(place));
        }
    }
    let places: BTreeMap<String, usize> = arranged
        .iter()
        .enumerate()
        .filter(|(_, node)| node.subject == Subject::Layer)
        .map(|(place, node)| (node.id.to_owned(), place))
        .collect();
    for image in &usage.images {
        let more: Vec<usize> = image
            .tops
            .iter()
            .skip(1)
            .filter_map(|top| places.get(top).copied())
            .collect();
        if let Some(node) = arranged
            .iter_mut()
            .filter(|_| !more.is_empty())
            .find(|node| node.subject == Subject::Image && node.id == image.id)
        {
            node.also_on = more;
        }
    }
    arranged
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::usage::{LayerUsage, ObjectUsage};

    /// Two images on one base, and a container of one of them.
    pub(in crate::cli) fn a_store() -> Usage {
        let layer = |id: &str, parent: &str, own| LayerUsage {
            id: id.to_owned(),
            parent: parent.to_owned(),
            names: Vec::new(),
            bytes: Bytes { own, shared: 0 },
            is_used: true,
        };
        let object = |id: &str, name: &str, top: &str, own, shared| ObjectUsage {
            id: id.to_owned(),
            names: vec![name.to_owned()],
            tops: vec![top.to_owned()],
            bytes: Bytes { own, shared },
        };
        Usage {
            layers: vec![
                layer("base", "", 4096),
                layer("web", "base", 3 << 20),
                layer("writable", "web", 512),
                layer("lost", "gone", 10),
            ],
            images: vec![
                object("i1", "debian", "base", 100, 4096),
                object("i2", "nginx <1>", "web", 200, (3 << 20) + 4096),
            ],
            containers: vec![object("c1", "shop", "writable", 712, (3 << 20) + 4096)],
            total: (3 << 20) + 5120,
            unused: 10,
        }
    }

    #[test]
    fn everything_comes_after_what_it_stands_on() {
        let usage = a_store();
        let drawn: Vec<_> = arrange(&usage)
            .iter()
            .map(|node| (node.id.to_owned(), node.depth, node.on, node.is_last))
            .collect();
        let expected = [
            ("base", 0, None, false),
            ("i1", 1, Some(0), false),
            ("web", 1, Some(0), true),
            ("i2", 2, Some(2), false),
            ("writable", 2, Some(2), true),
            ("c1", 3, Some(4), true),
            ("lost", 0, None, true),
        ];
        let expected = expected.map(|(id, depth, on, last)| (id.to_owned(), depth, on, last));
        assert_eq!(drawn, expected);
    }
}
