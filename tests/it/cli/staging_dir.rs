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
