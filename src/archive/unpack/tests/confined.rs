//! Where names lead: never out of the directory.

use super::*;

#[test]
fn names_stay_inside() {
    let place = Place::new();
    let archive = Archive::new()
        .file("../outside", b"1")
        .file("/absolute/file", b"2")
        .file("a/../../../b", b"3")
        .symlink("up", "../..")
        .file("up/outside2", b"4")
        .symlink("root", "/")
        .file("root/c", b"5");
    place.unpack(archive).unwrap();
    assert_eq!(place.read("outside"), b"1");
    assert_eq!(place.read("absolute/file"), b"2");
    assert_eq!(place.read("b"), b"3");
    assert_eq!(place.read("outside2"), b"4");
    assert_eq!(place.read("c"), b"5");
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    let outside = outside.to_str().unwrap();
    let archive = Archive::new()
        .symlink("link", outside)
        .file("x", b"")
        // The same name again, in a spelling that a recipe would not let pass.
        .symlink("dir", place.folder.path().to_str().unwrap())
        .file("dir/outside", b"inside");
    place.unpack(archive).unwrap();
    // Missing directories on the way of the link were made inside.
    let inside = place.path("").join(outside.strip_prefix('/').unwrap());
    assert_eq!(std::fs::read(inside).unwrap(), b"inside");

    // Without a recipe duplicates are allowed: the later one replaces the link itself.
    let bytes = Archive::new()
        .symlink("link", outside)
        .file("link", b"file")
        .bytes();
    let options = Options::new(OVERLAY);
    unpack::<Vec<u8>>(&*bytes, &place.root, &options, None).unwrap();
    assert_eq!(place.read("link"), b"file");
    assert_eq!(std::fs::read(outside).unwrap(), b"untouched");
}

#[test]
fn a_loop_of_links_is_an_error() {
    let place = Place::new();
    let archive = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"");
    let error = place.unpack(archive).unwrap_err();
    assert!(matches!(error, UnpackError::System(_)), "{error}");
}

#[test]
fn hard_links_stay_inside_and_need_their_target() {
    let place = Place::new();
    for target in ["../outside", "/etc/passwd", "missing", "gone/x"] {
        let archive = Archive::new().link(Kind::HardLink, "hard", target);
        let error = place.unpack(archive).unwrap_err();
        assert!(
            matches!(&error, UnpackError::System(error) if error.is_not_found()),
            "{error}"
        );
    }
    // Through a link that leads out the target is looked for inside.
    let folder = place.folder.path().to_str().unwrap();
    let archive = Archive::new()
        .symlink("out", folder)
        .link(Kind::HardLink, "hard", "out/outside");
    assert!(place.unpack(archive).is_err());
    // A link to a symbolic link is another name of that.
    let archive = Archive::new()
        .symlink("s", "/etc/passwd")
        .link(Kind::HardLink, "h", "s");
    let place = Place::new();
    place.unpack(archive).unwrap();
    assert!(place.stat("h").is_symlink());
}

#[test]
fn duplicate_names_are_refused_when_a_recipe_is_written() {
    for second in ["f", "./f", "/f", "../f", "d/../f"] {
        let place = Place::new();
        let archive = Archive::new().file("f", b"1").file(second, b"2");
        let error = place.unpack(archive).unwrap_err();
        assert!(
            matches!(error, UnpackError::Duplicate(_)),
            "{second}: {error}"
        );
    }
}

#[test]
fn trees_deeper_than_any_path_exhaust_nothing() {
    let deep = "d/".repeat(1100);
    let archive = Archive::new()
        .symlink("link", &format!("/{deep}"))
        .file(&format!("link/{deep}x"), b"");
    let place = Place::new();
    place.unpack(archive).unwrap();
    // Whether they end well or with the kernel's error for long paths, they end.
    let root = &place.root;
    drop(crate::archive::pack::pack(
        root,
        io::sink(),
        &Default::default(),
    ));
    drop(crate::archive::changes::size(root));
    drop(crate::archive::changes::overlay(root, &[]));
    let tree = crate::archive::changes::Tree::new(root);
    drop(crate::archive::changes::between(None, &tree));
    place.root.remove_contents().unwrap();
}
