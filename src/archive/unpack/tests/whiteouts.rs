//! Deletions, kept or carried out.

use super::*;

#[test]
fn whiteouts_become_marks_of_overlay() {
    let place = Place::new();
    let whiteout = Entry {
        uid: 3,
        ..entry(Kind::Regular, b"d/.wh.gone")
    };
    let archive = Archive::new()
        .with(&whiteout)
        .file("new/.wh..wh..opq", b"")
        .file(".wh.again", b"")
        .dir("again/")
        .file(".wh.twice", b"")
        .file("twice/.wh.below", b"")
        .file("kept", b"1")
        .file(".wh.kept", b"");
    place.unpack(archive).unwrap();
    let gone = place.stat("d/gone");
    assert!(is_whiteout(&gone));
    assert_eq!((gone.mode() & 0o7777, gone.uid()), (0, 3));
    let opaque = |name: &str| {
        let dir = place.root.open_dir(name).unwrap();
        dir.attribute("", b"trusted.overlay.opaque").unwrap()
    };
    assert_eq!(opaque("new"), Some(b"y".to_vec()));
    assert_eq!(opaque("d"), None);
    // Deleted, then made anew: what lower layers have in it stays deleted.
    assert_eq!(opaque("again"), Some(b"y".to_vec()));
    assert!(is_whiteout(&place.stat("twice")));
    assert_eq!(place.read("kept"), b"1");
}

#[test]
fn user_attributes_stand_for_trusted_ones_where_asked() {
    let place = Place::new();
    let attribute = |key: &[u8]| (key.to_vec(), b"y".to_vec());
    let archive = Archive::new().file("d/.wh..wh..opq", b"").with(&Entry {
        attributes: vec![
            attribute(b"user.overlay.redirect"),
            attribute(b"trusted.overlay.redirect"),
            attribute(b"user.fine"),
        ],
        ..entry(Kind::Directory, b"e/")
    });
    let options = Options::new(Whiteouts::Overlay {
        user_attributes: true,
    });
    place.unpack_with(archive, &options).unwrap();
    let attributes = |name: &str| place.root.open_dir(name).unwrap().attributes("").unwrap();
    assert!(attributes("d").contains(&b"user.overlay.opaque".to_vec()));
    let attributes = attributes("e");
    assert!(attributes.contains(&b"user.fine".to_vec()));
    assert!(
        !attributes
            .iter()
            .any(|key| key.starts_with(b"user.overlay"))
    );
    assert!(!attributes.iter().any(|key| key.starts_with(b"trusted")));
}

#[test]
fn whiteouts_are_carried_out_where_there_is_no_overlay() {
    let place = Place::new();
    let options = Options::new(Whiteouts::Apply);
    let lower = Archive::new()
        .file("a/1", b"")
        .file("a/2", b"")
        .file("a/deep/3", b"")
        .file("b/1", b"")
        .file("c", b"");
    place.unpack_with(lower, &options).unwrap();
    let upper = Archive::new()
        .file("a/deep/new", b"")
        .file("a/2", b"2")
        .file("a/.wh..wh..opq", b"")
        .file("b/.wh.1", b"")
        .file("b/.wh.missing", b"")
        .file(".wh.c", b"")
        .file("none/.wh.x", b"")
        .file(".wh..wh.plnk/0.1", b"")
        .file("own", b"")
        .file(".wh.own", b"");
    place.unpack_with(upper, &options).unwrap();
    let mut found: Vec<_> = Command::new("find")
        .current_dir(place.path(""))
        .args(["-mindepth", "1"])
        .output()
        .map(|output| String::from_utf8(output.stdout).unwrap())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort();
    assert_eq!(
        found,
        ["./a", "./a/2", "./a/deep", "./a/deep/new", "./b", "./own"]
    );
}
