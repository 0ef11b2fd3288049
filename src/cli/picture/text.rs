//! A picture of lines.

use super::{Node, size};

/// Draws a tree, one line for each object.
pub fn draw(nodes: &[Node<'_>]) -> String {
    let mut text = String::new();
    // Whether the branch of each level goes on.
    let mut open: Vec<bool> = Vec::new();
    for node in nodes {
        open.truncate(node.depth);
        for goes_on in &open {
            text.push_str(if *goes_on { "│ " } else { "  " });
        }
        text.push_str(if node.is_last { "└─" } else { "├─" });
        open.push(!node.is_last);
        text.push_str(&format!(
            "{} {} ({})\n",
            node.subject.as_str(),
            node.label(),
            size(node.bytes.own)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_store;
    use super::*;

    #[test]
    fn branches_stay_open_until_their_last_one() {
        let usage = a_store();
        let text = draw(&super::super::arrange(&usage));
        let expected = "├─layer base (4.00 KiB)
│ ├─image i1 debian (100 B)
│ └─layer web (3.00 MiB)
│   ├─image i2 nginx <1> (200 B)
│   └─layer writable (512 B)
│     └─container c1 shop (712 B)
└─layer lost (10 B)
";
        assert_eq!(text, expected);
    }
}
