//! The drawing of `layers --tree`.

use std::collections::BTreeMap;

/// A layer to draw.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its ID.
    pub id: String,
    /// That of the layer below; empty without.
    pub parent: String,
    /// Lines under it.
    pub notes: Vec<String>,
}

/// Draws all layers: those without a parent below `(base)`, those whose parent is missing below its ID; as the peer, in the
/// order of how many layers stand on either.
pub fn draw(nodes: &[Node]) -> String {
    let mut children: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut roots: Vec<&str> = Vec::new();
    let known: std::collections::BTreeSet<&str> = nodes.iter().map(|node| &*node.id).collect();
    for (index, node) in nodes.iter().enumerate() {
        children.entry(&node.parent).or_default().push(index);
        if !known.contains(&*node.parent) && !roots.contains(&&*node.parent) {
            roots.push(&node.parent);
        }
    }
    roots.sort_by_key(|root| (children.get(root).map_or(0, Vec::len), !root.is_empty()));
    let mut text = String::new();
    for root in roots {
        text.push_str(if root.is_empty() { "(base)" } else { root });
        text.push('\n');
        draw_children(nodes, &children, root, &mut text);
    }
    text
}

/// Chains are as deep as the kernel mounts them or deeper, so this keeps its own stack.
fn draw_children(
    nodes: &[Node],
    children: &BTreeMap<&str, Vec<usize>>,
    root: &str,
    text: &mut String,
) {
    let mut stack: Vec<(usize, String, bool)> = Vec::new();
    let push = |stack: &mut Vec<(usize, String, bool)>, parent: &str, prefix: &str| {
        let indexes = children.get(parent).map_or(&[][..], Vec::as_slice);
        for (place, index) in indexes.iter().enumerate().rev() {
            stack.push((*index, prefix.to_owned(), place + 1 == indexes.len()));
        }
    };
    push(&mut stack, root, "");
    // A record that is its own ancestor is drawn once for every turn that would fit.
    let mut left = nodes.len();
    while let Some((index, prefix, is_last)) = stack.pop() {
        if left == 0 {
            return;
        }
        left -= 1;
        let Some(node) = nodes.get(index) else { return };
        text.push_str(&format!(
            "{prefix}{}{}\n",
            if is_last { "└─" } else { "├─" },
            node.id
        ));
        let below = format!("{prefix}{}", if is_last { "  " } else { "│ " });
        for note in &node.notes {
            text.push_str(&format!("{below}{note}\n"));
        }
        push(&mut stack, &node.id, &below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, parent: &str, notes: &[&str]) -> Node {
        let notes = notes.iter().map(ToString::to_string).collect();
        Node {
            id: id.to_owned(),
            parent: parent.to_owned(),
            notes,
        }
    }

    #[test]
    fn branches_stay_open_until_their_last_child() {
        let nodes = [
            node("a", "", &["name: x"]),
            node("b", "a", &["image: i"]),
            node("c", "b", &[]),
            node("d", "b", &["container: k"]),
            node("e", "", &[]),
            node("f", "gone", &["name: y"]),
        ];
        let expected = "\
gone
└─f
  name: y
(base)
├─a
│ name: x
│ └─b
│   image: i
│   ├─c
│   └─d
│     container: k
└─e
";
        assert_eq!(draw(&nodes), expected);
    }
}
