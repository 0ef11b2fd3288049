//! A picture as SVG: a line for each object, below what it stands on or by its size, with a bar for its bytes.

use super::{Node, Subject, size};

/// The height of a line.
const LINE: usize = 24;
/// Where the bars begin.
const BARS: usize = 560;
/// How long the longest bar is.
const LONGEST: usize = 360;
/// How far each level is moved to the right.
const STEP: usize = 18;
/// Levels beyond this one are drawn at its place.
const DEEPEST: usize = 12;
/// The margin around all of it.
const MARGIN: usize = 16;
/// So many letters of a label fit before the bars.
const LETTERS: usize = 66;

/// The colours of what an object has alone and of what it shares.
fn colours(node: &Node<'_>) -> (&'static str, &'static str) {
    match node.subject {
        Subject::Layer if node.is_unused => ("#b5392f", "#ecb9b5"),
        Subject::Layer => ("#6b7785", "#c9d0d8"),
        Subject::Image => ("#2f6fb5", "#b5cfec"),
        Subject::Container => ("#c17d1a", "#efd3a5"),
    }
}

/// Draws all nodes in their order; with `branches` the lines between them too.
pub fn draw(title: &str, nodes: &[Node<'_>], branches: bool) -> String {
    let width = BARS + LONGEST + 230;
    let height = MARGIN * 2 + LINE * (nodes.len() + 1);
    let largest = nodes
        .iter()
        .map(|node| node.bytes.own + node.bytes.shared)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{}\" font-size=\"16\" font-weight=\"bold\">{}</text>\n",
        MARGIN + LINE / 2,
        escaped(title)
    );
    let mut legend = BARS + LONGEST - 60;
    for (colour, meaning) in [
        ("#6b7785", "its own"),
        ("#c9d0d8", "shared"),
        ("#b5392f", "unused"),
    ] {
        text.push_str(&format!(
            "<rect x=\"{legend}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"{}\" font-size=\"12\" fill=\"#444444\">{meaning}</text>\n",
            MARGIN + LINE / 2 - 10,
            legend + 15,
            MARGIN + LINE / 2
        ));
        legend += 85;
    }
    let middle = |place: usize| MARGIN + LINE * (place + 1) + LINE / 2;
    let indent = |node: &Node<'_>| match branches {
        true => MARGIN + STEP * node.depth.min(DEEPEST),
        false => MARGIN,
    };
    if branches {
        for (place, node) in nodes.iter().enumerate() {
            if let Some(below) = node.on
                && let Some(parent) = nodes.get(below)
                && node.depth <= DEEPEST
            {
                let x = indent(parent) + 5;
                text.push_str(&format!(
                    "<path d=\"M{x} {} V{} H{}\" fill=\"none\" stroke=\"#9aa4af\"/>\n",
                    middle(below) + 6,
                    middle(place),
                    indent(node)
                ));
            }
        }
    }
    for (place, node) in nodes.iter().enumerate() {
        let (own, shared) = colours(node);
        let (x, y) = (indent(node), middle(place));
        // The whole of it, for whoever points at the line: ID and all names.
        let mut whole = format!("{} {}", node.subject.as_str(), node.id);
        for name in node.names {
            whole.push('\n');
            whole.push_str(name);
        }
        if node.is_unused {
            whole.push_str("\nno image and no container needs it");
        }
        text.push_str(&format!("<g><title>{}</title>\n", escaped(&whole)));
        text.push_str(&format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"{}\" fill=\"{own}\"/>\n\
             <text x=\"{}\" y=\"{}\">{}</text>\n",
            y - 5,
            if node.subject == Subject::Layer { 1 } else { 5 },
            x + 16,
            y + 4,
            escaped(&shortened(
                &format!("{} {}", node.subject.as_str(), node.label()),
                LETTERS.saturating_sub((x - MARGIN) / 7)
            )),
        ));
        let mut at = BARS;
        for (bytes, colour) in [(node.bytes.own, own), (node.bytes.shared, shared)] {
            let length = (bytes as f64 / largest as f64 * LONGEST as f64).ceil() as usize;
            if length > 0 {
                text.push_str(&format!(
                    "<rect x=\"{at}\" y=\"{}\" width=\"{length}\" height=\"14\" fill=\"{colour}\"/>\n",
                    y - 7
                ));
                at += length;
            }
        }
        let mut caption = size(node.bytes.own);
        if node.bytes.shared > 0 {
            caption.push_str(&format!(" + {} shared", size(node.bytes.shared)));
        }
        text.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" fill=\"#444444\">{caption}</text></g>\n",
            at + 6,
            y + 4
        ));
    }
    text.push_str("</svg>\n");
    text
}

fn shortened(label: &str, letters: usize) -> String {
    if label.chars().count() <= letters {
        return label.to_owned();
    }
    let kept: String = label.chars().take(letters.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Text without what XML would read as its own, or forbids.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push('\n'),
            letter if letter.is_control() => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_store;
    use super::*;

    #[test]
    fn every_object_has_a_line_and_a_bar() {
        let usage = a_store();
        let nodes = super::super::arrange(&usage);
        for branches in [true, false] {
            let text = draw("a <store>", &nodes, branches);
            assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
            assert!(text.contains("a &lt;store&gt;") && text.contains("nginx &lt;1&gt;"));
            assert_eq!(text.matches("<path ").count(), if branches { 5 } else { 0 });
            assert_eq!(text.matches("</g>").count(), nodes.len());
            assert!(text.contains("<title>image i2\nnginx &lt;1&gt;</title>"));
        }
    }

    #[test]
    fn long_labels_are_cut() {
        assert_eq!(shortened("äbcdef", 4), "äbc…");
        assert_eq!(shortened("äbcd", 4), "äbcd");
    }
}
