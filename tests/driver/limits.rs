//! Limits of what containers may write, where they can't be had; where they can, `tests/vm/guest/quotas.rs` tries them.

use std::fs;

use strata::store::driver::{DriverError, DriverKind, Limits, PrepareOptions};
use strata::sys::Dir;

use crate::fixture::Home;
use crate::places::{Disk, FileSystem};

const LIMITED: PrepareOptions = PrepareOptions {
    read_write: true,
    durable: false,
    parent_comes_later: false,
    root: (0, 0),
    limits: Limits {
        size: Some(1 << 20),
        inodes: None,
    },
};

#[test]
fn a_file_system_without_project_quotas_says_what_would_have_some() {
    for kind in [FileSystem::Xfs, FileSystem::Ext4, FileSystem::Btrfs] {
        let disk = Disk::new(kind);
        let home = Home::at(DriverKind::Overlay, disk.path());
        for option in ["overlay.size=1g", "overlay.inodes=100", "size=1g"] {
            let error = home.open_beside(&[option]).unwrap_err();
            assert!(matches!(error, DriverError::NoQuotas { .. }), "{error}");
            let text = error.to_string();
            for part in ["overlay.size and overlay.inodes", "pquota", "prjquota"] {
                assert!(text.contains(part), "{text}");
            }
        }
        // Nothing was made that would decide for this driver the next time.
        assert_eq!(fs::read_dir(home.aside("beside")).unwrap().count(), 0);
        // No limit is one that can be had anywhere.
        home.open_beside(&["overlay.size=0", "overlay.inodes=0"])
            .unwrap();

        let error = home.try_prepare_as(None, &LIMITED, |_| {}).unwrap_err();
        assert!(matches!(error, DriverError::NoQuotas { .. }), "{error}");
    }
}

#[test]
fn only_the_layers_of_containers_have_limits() {
    let of_image = PrepareOptions {
        read_write: false,
        ..LIMITED
    };
    let home = Home::overlay();
    let error = home.try_prepare_as(None, &of_image, |_| {}).unwrap_err();
    assert!(matches!(error, DriverError::LimitOfImage), "{error}");

    let home = Home::new(DriverKind::Vfs);
    let error = home.try_prepare_as(None, &LIMITED, |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the driver vfs can't limit the size of a layer"
    );
}

#[test]
fn a_project_is_handed_down_until_it_is_kept() {
    let disk = Disk::new(FileSystem::Xfs);
    let root = Dir::open(disk.path()).unwrap();
    let make = |dir: &Dir, name: &str| {
        dir.create_dir(name, 0o700).unwrap();
        dir.open_dir(name).unwrap()
    };
    let top = make(&root, "top");
    assert_eq!(top.project().unwrap(), 0);
    top.set_project(4711).unwrap();
    let below = make(&make(&top, "a"), "b");
    assert_eq!(below.project().unwrap(), 4711);
    assert!(top.keep_project().unwrap());
    assert!(!top.keep_project().unwrap());
    assert_eq!(top.project().unwrap(), 4711);
    assert_eq!(make(&top, "c").project().unwrap(), 0);
    assert_eq!(make(&below, "d").project().unwrap(), 4711);
}

/// An administrator may count all that is in a store as one project. Into a directory that hands its project down nothing
/// of another can be moved.
#[test]
fn layers_move_into_a_home_that_is_a_project_of_the_administrators() {
    let disk = Disk::new(FileSystem::Xfs);
    let home = Home::at(DriverKind::Overlay, disk.path());
    let overlay = Dir::open(home.graph.join("overlay")).unwrap();
    overlay.set_project(500).unwrap();
    home.layer("base", None, &[("file", "x")]);
    assert!(!overlay.keep_project().unwrap(), "it was stopped from that");
    assert_eq!(overlay.project().unwrap(), 500);
    let layer = overlay.open_dir("base").unwrap();
    layer.set_project(501).unwrap();
    home.staging.set_project(500).unwrap();
    assert!(home.discard("base"));
}
