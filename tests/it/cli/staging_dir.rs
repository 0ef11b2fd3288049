//! `applydiff-using-staging-dir`: a directory becomes the contents of a layer.

use super::Sandbox;

#[test]
fn a_directory_becomes_a_layer_that_was_not_there() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("source")).unwrap();
    sandbox.file("source/one", "one\n");
    let source = sandbox.path("source");
    assert_eq!(
        sandbox.ok(&["applydiff-using-staging-dir", "fresh", &source]),
        ""
    );
    assert_eq!(sandbox.ok(&["changes", "fresh"]), "Add \"/one\"\n");
    let error = sandbox.fails(&["applydiff-using-staging-dir", "fresh", &source]);
    assert!(error.contains("not differences"), "{error}");
    let error = sandbox.fails(&["applydiff-using-staging-dir", "other", "/nosuch"]);
    assert_eq!(error, "open /nosuch: no such file or directory\n");
    assert_eq!(sandbox.ok(&["layers"]), "fresh\n");
}

#[test]
fn commands_with_nothing_to_tell_say_so_in_json() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("source")).unwrap();
    sandbox.file("source/one", "one\n");
    sandbox.file("data", "data");
    let (source, data) = (sandbox.path("source"), sandbox.path("data"));
    let commands: [&[&str]; 5] = [
        &["applydiff-using-staging-dir", "-j", "layer", &source],
        &["set-metadata", "-j", "-m", "text", "layer"],
        &["set-layer-data", "-j", "-f", &data, "layer", "item"],
        &["gc", "-j"],
        &["shutdown", "--json"],
    ];
    for command in commands {
        assert_eq!(sandbox.ok(command), "\"\"\n", "{command:?}");
    }
    let size = sandbox.ok(&["diffsize", "-j", "layer"]);
    assert!(size.trim_end().parse::<u64>().is_ok(), "{size:?}");
    assert_eq!(sandbox.ok(&["metadata", "-q", "layer"]), "text\n");
    assert_eq!(sandbox.ok(&["get-layer-data", "layer", "item"]), "data");
}
