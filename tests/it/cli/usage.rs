//! `du` and `tree`: who uses the space, in every form.

use super::Sandbox;

/// Two images on one layer, a container, and a layer that nobody needs.
fn a_store() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("source")).unwrap();
    let source = sandbox.path("source");
    sandbox.file("source/big", vec![7; 300_000]);
    std::fs::hard_link(sandbox.path("source/big"), sandbox.path("source/again")).unwrap();
    for layer in ["base", "lost"] {
        sandbox.ok(&["applydiff-using-staging-dir", layer, &source]);
    }
    sandbox.ok(&["create-image", "-i", "i1", "-n", "localhost/one", "base"]);
    sandbox.ok(&["create-image", "-i", "i2", "base"]);
    sandbox.ok(&["create-container", "-i", "c1", "-n", "shop", "i1"]);
    sandbox
}

fn number(of: &serde_json::Value) -> u64 {
    of.as_u64().unwrap()
}

#[test]
fn bytes_are_told_apart_by_who_has_them() {
    let sandbox = a_store();
    let printed = sandbox.ok(&["du", "--json"]);
    let usage: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let find = |kind: &str, id: &str| {
        let list = usage[kind].as_array().unwrap();
        let found = list.iter().find(|object| object["id"] == id);
        found
            .unwrap_or_else(|| panic!("{kind} has no {id}: {printed}"))
            .clone()
    };
    let base = find("layers", "base");
    assert_eq!(base["used"], true);
    // A file with two names is there once.
    let bytes = number(&base["own"]) + number(&base["shared"]);
    assert!((300_000..500_000).contains(&bytes), "{printed}");
    for image in ["i1", "i2"] {
        // Each is on the disk through the other one as well.
        assert_eq!(number(&find("images", image)["own"]), 0, "{printed}");
        assert!(number(&find("images", image)["shared"]) >= 300_000);
    }
    let lost = find("layers", "lost");
    assert_eq!(lost["used"], false);
    assert_eq!(usage["unused"], lost["own"]);
    let parts = |kind: &str| -> u64 {
        let list = usage[kind].as_array().unwrap();
        list.iter().map(|object| number(&object["own"])).sum()
    };
    assert!(parts("layers") <= number(&usage["total"]), "{printed}");
}

#[test]
fn the_table_has_a_line_for_each() {
    let sandbox = a_store();
    let table = sandbox.ok(&["du"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("KIND       ID"), "{table}");
    assert!(table.contains("image      i1") && table.contains("localhost/one"));
    assert!(table.contains("container  c1") && table.contains("shop"));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("layer      lost") && line.ends_with("(unused)"))
    );
    assert!(lines.iter().any(|line| line.starts_with("total")));
}

#[test]
fn trees_are_drawn_in_every_form() {
    let sandbox = a_store();
    let tree = sandbox.ok(&["tree"]);
    assert!(tree.starts_with("├─layer base ("), "{tree}");
    assert!(
        tree.contains("│ ├─image i1 localhost/one (0 B)\n"),
        "{tree}"
    );
    assert!(tree.contains("└─layer lost ("), "{tree}");
    for command in ["tree", "du"] {
        let dot = sandbox.ok(&[command, "--format", "dot"]);
        assert!(dot.starts_with("digraph store {\n") && dot.contains("n1 -> n0;"));
        let svg = sandbox.ok(&[command, "--format=svg"]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(
            sandbox.ok(&[command, "-j"]),
            sandbox.ok(&[command, "--format", "json"])
        );
    }
    let empty = Sandbox::new();
    assert_eq!(empty.ok(&["tree"]), "");
    assert!(empty.ok(&["du", "-j"]).contains("\"total\":0"));
}
