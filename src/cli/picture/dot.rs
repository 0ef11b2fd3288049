//! A picture for Graphviz: `strata tree --format dot | dot -Tpng`.

use super::{Node, Subject, size};

/// Draws a graph: layers are boxes, images and containers stand on them.
pub fn draw(nodes: &[Node<'_>]) -> String {
    let mut text = "digraph store {\n  rankdir=BT;\n  node [fontname=\"sans-serif\"];\n".to_owned();
    for (place, node) in nodes.iter().enumerate() {
        let style = match node.subject {
            Subject::Layer => "shape=box",
            Subject::Image => "shape=ellipse, style=filled, fillcolor=\"#d6e4f5\"",
            Subject::Container => "shape=ellipse, style=filled, fillcolor=\"#f7e3c8\"",
        };
        let mut label = format!("{} {}", node.subject.as_str(), node.label());
        label.push('\n');
        label.push_str(&size(node.bytes.own));
        if node.bytes.shared > 0 {
            label.push_str(&format!(" + {} shared", size(node.bytes.shared)));
        }
        text.push_str(&format!(
            "  n{place} [label={}, {style}];\n",
            quoted(&label)
        ));
        for below in node.on.iter().chain(&node.also_on) {
            text.push_str(&format!("  n{place} -> n{below};\n"));
        }
    }
    text.push_str("}\n");
    text
}

fn quoted(label: &str) -> String {
    let escaped = label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_store;
    use super::*;

    #[test]
    fn edges_go_to_what_is_below() {
        let usage = a_store();
        let text = draw(&super::super::arrange(&usage));
        assert!(text.starts_with("digraph store {\n") && text.ends_with("}\n"));
        assert!(text.contains("n0 [label=\"layer base\\n4.00 KiB\", shape=box];\n"));
        assert!(text.contains("image i2 nginx <1>\\n200 B + 3.00 MiB shared"));
        for edge in ["n1 -> n0", "n2 -> n0", "n3 -> n2", "n4 -> n2", "n5 -> n4"] {
            assert!(text.contains(&format!("  {edge};\n")), "{edge}");
        }
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
    }
}
