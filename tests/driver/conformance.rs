//! What every driver must do.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use strata::archive::changes::Kind;
use strata::store::driver::{Base, DriverError, DriverKind};

use crate::fixture::{Home, delete, mode, read};

fn a_layer_is_there_from_adoption_to_discarding(home: &Home) {
    let driver = &home.driver;
    assert!(driver.list().unwrap().is_empty());
    assert!(!driver.exists("base").unwrap());
    let name = home.try_prepare(None, |_| {}).unwrap();
    assert!(driver.list().unwrap().is_empty());
    driver.adopt(&home.staging, &name, "base").unwrap();
    home.layer("child", Some("base"), &[]);
    let mut list = driver.list().unwrap();
    list.sort();
    assert_eq!(list, ["base", "child"]);
    assert!(driver.exists("base").unwrap());

    assert!(driver.discard("child", &home.staging, "trash").unwrap());
    assert!(!driver.discard("child", &home.staging, "other").unwrap());
    assert_eq!(driver.list().unwrap(), ["base"]);
    assert!(!driver.exists("child").unwrap());
    assert!(home.staging.stat("trash").unwrap().is_some());
    assert!(home.staging.stat("other").unwrap().is_none());
}

fn a_child_sees_its_ancestors_and_writes_to_itself(home: &Home) {
    home.layer("base", None, &[("etc/name", "base"), ("kept", "old")]);
    home.layer("middle", Some("base"), &[("etc/more", "middle")]);
    home.layer("top", Some("middle"), &[]);
    let root = home.mount("top");
    assert_eq!(read(root.join("etc/name")), "base");
    assert_eq!(read(root.join("etc/more")), "middle");
    fs::write(root.join("kept"), "new").unwrap();
    fs::write(root.join("own"), "top").unwrap();
    home.unmount("top");
    home.unmount("top");

    let root = home.mount("base");
    assert_eq!(read(root.join("kept")), "old");
    assert!(!root.join("own").exists() && !root.join("etc/more").exists());
    home.unmount("base");
    let root = home.mount("top");
    assert_eq!(read(root.join("kept")), "new");
    assert_eq!(read(root.join("own")), "top");
    home.unmount("top");
}

fn a_deletion_hides_what_is_below(home: &Home) {
    home.layer("base", None, &[("d/gone", "x"), ("d/kept", "y")]);
    home.layer_with("child", Some("base"), |root| {
        fs::create_dir_all(root.join("d")).unwrap();
        delete(&*home.driver, root, "d/gone");
    });
    home.layer("grandchild", Some("child"), &[]);
    let root = home.mount("grandchild");
    assert!(!root.join("d/gone").exists());
    assert_eq!(read(root.join("d/kept")), "y");
    home.unmount("grandchild");
}

fn the_root_directory_is_inherited(home: &Home) {
    home.layer("base", None, &[]);
    assert_eq!(mode(home.driver.content("base").unwrap().path()), 0o555);
    let is_root = rustix::process::geteuid().is_root();
    home.layer_with("odd", Some("base"), |root| {
        if is_root {
            std::os::unix::fs::chown(root, Some(7), Some(8)).unwrap();
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o1751)).unwrap();
    });
    home.layer("child", Some("odd"), &[]);
    let content = home.driver.content("child").unwrap();
    assert_eq!(mode(content.path()), 0o1751);
    if is_root {
        let found = fs::metadata(content.path()).unwrap();
        assert_eq!((found.uid(), found.gid()), (7, 8));
    }
}

fn adopting_an_id_again_replaces_what_no_record_has(home: &Home) {
    home.layer("base", None, &[("file", "first")]);
    home.layer("child", Some("base"), &[]);
    let name = home
        .try_prepare(None, |root| fs::write(root.join("file"), "second").unwrap())
        .unwrap();
    home.driver.adopt(&home.staging, &name, "base").unwrap();
    assert_eq!(
        read(home.driver.content("base").unwrap().path().join("file")),
        "second"
    );
    if home.kind == DriverKind::Overlay {
        let root = home.mount("child");
        assert_eq!(read(root.join("file")), "second");
        home.unmount("child");
    }
}

fn a_missing_parent_is_an_error_that_leaves_nothing(home: &Home) {
    let error = home.try_prepare(Some("nobody"), |_| {}).unwrap_err();
    assert!(matches!(error, DriverError::Missing(id) if id == "nobody"));
    assert!(home.driver.list().unwrap().is_empty());
    let error = home.mount_with("nobody", &Default::default()).unwrap_err();
    assert!(matches!(error, DriverError::Missing(_)));
}

fn files_open_without_mounting_and_without_escaping(home: &Home) {
    let secret = home.aside("secret");
    fs::write(&secret, "outside").unwrap();
    home.layer("base", None, &[("usr/lib/a", "below"), ("b", "below")]);
    home.layer_with("child", Some("base"), |root| {
        fs::write(root.join("b"), "own").unwrap();
        symlink(&secret, root.join("absolute")).unwrap();
        symlink(
            "../../../../../../../../../../../../../../etc/passwd",
            root.join("up"),
        )
        .unwrap();
        symlink("/b", root.join("inside")).unwrap();
    });
    let open = |path: &str| {
        home.driver
            .open_file("child", path.as_bytes())
            .map(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            })
    };
    assert_eq!(open("b").unwrap(), "own");
    assert_eq!(open("usr/lib/a").unwrap(), "below");
    assert_eq!(open("inside").unwrap(), "own");
    for path in ["absolute", "up", "missing", "../../secret", "b/below"] {
        assert!(open(path).is_err(), "{path}");
    }
}

fn what_is_no_file_is_not_opened_as_one(home: &Home) {
    home.layer_with("base", None, |root| {
        let dir = strata::sys::Dir::open(root).unwrap();
        dir.create_node("pipe", rustix::fs::FileType::Fifo, 0o600, (0, 0))
            .unwrap();
        dir.create_dir("dir", 0o700).unwrap();
    });
    for path in ["pipe", "dir"] {
        assert!(
            home.driver.open_file("base", path.as_bytes()).is_err(),
            "{path}"
        );
    }
}

fn changes_and_diffs_tell_a_layer_from_those_below(home: &Home) {
    home.layer(
        "base",
        None,
        &[("d/changed", "1"), ("d/gone", "2"), ("kept", "3")],
    );
    home.layer_with("child", Some("base"), |root| {
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/changed"), "longer").unwrap();
        fs::write(root.join("added"), "four").unwrap();
        delete(&*home.driver, root, "d/gone");
    });
    home.layer("grandchild", Some("child"), &[]);
    let from = |from: Option<&str>| from.map_or(Base::Below, |from| Base::Layer(from.into()));
    let list = |id: &str, base: Option<&str>| {
        let changes = home.driver.changes(&id.into(), &from(base)).unwrap();
        let mut list: Vec<_> = changes
            .into_iter()
            .filter(|change| change.path.to_str() != Some("/d"))
            .map(|change| (change.kind, change.path.to_str().unwrap().to_owned()))
            .collect();
        list.sort();
        list
    };
    let expected = [
        (Kind::Modify, "/d/changed".to_owned()),
        (Kind::Add, "/added".to_owned()),
        (Kind::Delete, "/d/gone".to_owned()),
    ];
    assert_eq!(list("child", Some("base")), expected);
    assert_eq!(list("grandchild", Some("base")), expected);
    assert_eq!(list("grandchild", Some("child")), []);
    let size = home.driver.diff_size(&"child".into(), &from(Some("base")));
    assert_eq!(size.unwrap(), 10);
    if home.kind == DriverKind::Overlay {
        assert_eq!(list("child", None), expected);
    }

    let mut tar = Vec::new();
    home.driver
        .diff(&"grandchild".into(), &from(Some("base")), &mut tar)
        .unwrap();
    let text = String::from_utf8_lossy(&tar);
    for name in ["added", "d/changed", "d/.wh.gone"] {
        assert!(text.contains(name), "{name}");
    }
    assert!(!text.contains("kept"));
}

fn layers_of_an_additional_store_are_parents(kind: DriverKind, options: &[&str]) {
    let other = Home::with(kind, "graph", options, &[]);
    other.layer("far-base", None, &[("far", "away")]);
    other.layer("far", Some("far-base"), &[]);
    let home = Home::with(kind, "graph", options, std::slice::from_ref(&other.graph));
    home.layer("near", Some("far"), &[("near", "here")]);
    let root = home.mount("near");
    assert_eq!(read(root.join("far")), "away");
    assert_eq!(read(root.join("near")), "here");
    home.unmount("near");
    assert_eq!(home.driver.list().unwrap(), ["near"]);
    assert!(!home.driver.exists("far").unwrap());
    let mut file = home.driver.open_file("near", b"far").unwrap();
    assert_eq!(file.read_all().unwrap(), b"away");
    assert!(!home.discard("far"));
    assert_eq!(other.driver.list().unwrap().len(), 2);
}

fn ids_that_are_no_names_reach_nothing(home: &Home) {
    home.layer("base", None, &[]);
    let reserved: &[&str] = match home.kind {
        DriverKind::Overlay => &["l", "staging", "a:b"],
        _ => &[],
    };
    for id in ["", ".", "..", "a/b", "../base", "/"]
        .iter()
        .chain(reserved)
    {
        assert!(!home.driver.exists(id).unwrap_or(false), "exists {id:?}");
        assert!(home.driver.content(id).is_err(), "content {id:?}");
        assert!(
            !matches!(home.driver.discard(id, &home.staging, "x"), Ok(true)),
            "discard {id:?}"
        );
        let name = home.try_prepare(None, |_| {}).unwrap();
        assert!(
            home.driver.adopt(&home.staging, &name, id).is_err(),
            "adopt {id:?}"
        );
        assert!(
            home.try_prepare(Some(id), |_| {}).is_err(),
            "prepare {id:?}"
        );
    }
    assert_eq!(home.driver.list().unwrap(), ["base"]);
}

macro_rules! suite {
    ($kind:expr, $options:expr, $module:ident: $($name:ident),* $(,)?) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name(&Home::with($kind, "graph", $options, &[]));
            })*

            #[test]
            fn layers_of_an_additional_store_are_parents() {
                super::layers_of_an_additional_store_are_parents($kind, $options);
            }
        }
    };
}

/// Debian's name for the program that mounts where the kernel may not.
const PROGRAM: &[&str] = &["overlay.mount_program=/usr/bin/fuse-overlayfs"];

macro_rules! suites {
    ($($name:ident),* $(,)?) => {
        suite!(DriverKind::Overlay, &[], overlay: $($name),*);
        suite!(DriverKind::Overlay, PROGRAM, program: $($name),*);
        suite!(DriverKind::Vfs, &[], vfs: $($name),*);
        suite!(DriverKind::Btrfs, &[], btrfs: $($name),*);
    };
}

suites!(
    a_layer_is_there_from_adoption_to_discarding,
    a_child_sees_its_ancestors_and_writes_to_itself,
    a_deletion_hides_what_is_below,
    the_root_directory_is_inherited,
    adopting_an_id_again_replaces_what_no_record_has,
    a_missing_parent_is_an_error_that_leaves_nothing,
    files_open_without_mounting_and_without_escaping,
    what_is_no_file_is_not_opened_as_one,
    changes_and_diffs_tell_a_layer_from_those_below,
    ids_that_are_no_names_reach_nothing,
);
