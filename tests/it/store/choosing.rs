//! Which driver a store gets.

use std::path::Path;

use strata::store::driver::DriverKind;
use strata::store::{Config, Error, Store};

fn open(graph: &Path, driver: Option<&str>, priority: &[&str]) -> Result<Store, Error> {
    Store::open(Config {
        driver: driver.map(str::to_owned),
        driver_priority: priority.iter().map(|name| (*name).to_owned()).collect(),
        ..Config::in_roots(graph.join("graph"), graph.join("run"))
    })
}

#[test]
fn drivers_that_strata_lacks_are_refused_by_name() {
    for name in ["zfs", "aufs", "nonsense"] {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path(), Some(name), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("{name:?}")), "{error}");
        assert!(error.contains("btrfs"), "{error}");
    }
}

#[test]
fn the_first_driver_of_the_list_that_works_here_is_taken() {
    // A file system in memory has no subvolumes.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = open(folder.path(), None, &["zfs", "btrfs", "vfs"]).unwrap();
    assert_eq!(store.driver().kind(), DriverKind::Vfs);
    assert!(!folder.path().join("graph/btrfs").exists());
    drop(store);
    // The next time the folder decides.
    let store = open(folder.path(), None, &["overlay", "btrfs", "vfs"]).unwrap();
    assert_eq!(store.driver().kind(), DriverKind::Vfs);
}

#[test]
fn a_named_driver_that_can_not_work_here_is_an_error() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let error = open(folder.path(), Some("btrfs"), &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("not on a btrfs file system"), "{text}");
}
