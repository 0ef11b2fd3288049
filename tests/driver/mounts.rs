//! Overlay and the mount table: limits, options, places, homes that are mounts.

use std::fs;
use std::path::Path;

use strata::store::driver::{DriverError, DriverKind, MountOptions};
use strata::sys::mount::{self, Flags};
use strata::sys::mount_table;

use crate::fixture::{Home, enter, read};

fn volatile() -> MountOptions {
    MountOptions {
        volatile: true,
        ..MountOptions::default()
    }
}

fn read_only() -> MountOptions {
    MountOptions {
        read_only: true,
        ..MountOptions::default()
    }
}

fn line(path: &Path) -> Option<mount_table::Line> {
    let table = mount_table::read().unwrap();
    table
        .into_iter()
        .rev()
        .find(|line| line.mount_point == path)
}

#[test]
fn layers_are_mounted_at_every_depth_and_one_too_many_is_refused() {
    let home = Home::overlay();
    home.chain("l", 501);
    for below in 0..=500 {
        let id = &format!("l{below}");
        let root = home.mount(id);
        assert_eq!(read(root.join("base")), "deep", "{id}");
        home.unmount(id);
    }
    for id in ["l130", "l500"] {
        let root = home.mount(id);
        fs::write(root.join("written"), id).unwrap();
        home.unmount(id);
        assert_eq!(read(home.layer_path(id).join("diff/written")), *id);
    }
    assert_eq!(home.driver.lowers("l500").unwrap().len(), 500);
    // Read-only, the layer itself is one of them.
    assert!(matches!(
        home.mount_with("l500", &read_only()).unwrap_err(),
        DriverError::TooDeep {
            found: 501,
            limit: 500,
            ..
        }
    ));
    let root = home.mount_with("l499", &read_only()).unwrap();
    assert_eq!(read(root.join("base")), "deep");
    home.unmount("l499");
    let error = home.try_prepare(Some("l500"), |_| {}).unwrap_err();
    assert!(matches!(
        error,
        DriverError::TooDeep {
            found: 501,
            limit: 500,
            ..
        }
    ));
}

#[test]
fn paths_longer_than_the_kernel_takes_as_an_option_are_mounted() {
    let long = ["x".repeat(200), "y".repeat(200)].join("/");
    let home = Home::with(DriverKind::Overlay, &long, &[], &[]);
    let top = home.chain("l", 3);
    let root = home.mount(&top);
    assert_eq!(read(root.join("base")), "deep");
    fs::write(root.join("written"), "").unwrap();
    home.unmount(&top);
    assert!(home.layer_path(&top).join("diff/written").exists());
}

#[test]
fn generic_options_become_properties_of_the_mount() {
    let home = Home::with(
        DriverKind::Overlay,
        "graph",
        &["mountopt=nodev,noatime"],
        &[],
    );
    home.layer("base", None, &[("file", "")]);
    let root = home.mount("base");
    let options = line(&root).unwrap().options;
    assert_eq!(options, "rw,nodev,noatime");
    home.unmount("base");

    // A caller's options replace the configured ones.
    let own = MountOptions {
        options: vec!["nosuid".to_owned(), "ro".to_owned()],
        ..MountOptions::default()
    };
    let root = home.mount_with("base", &own).unwrap();
    let found = line(&root).unwrap();
    assert_eq!(found.options, "ro,nosuid,relatime");
    assert_eq!(found.super_option("upperdir"), None);
    assert!(fs::write(root.join("file"), "x").is_err());
    home.unmount("base");

    for (option, shown) in [
        ("nodiratime", "rw,nodiratime,relatime"),
        ("strictatime", "rw"),
    ] {
        let times = MountOptions {
            options: vec![option.to_owned()],
            ..MountOptions::default()
        };
        let root = home.mount_with("base", &times).unwrap();
        assert_eq!(line(&root).unwrap().options, shown);
        home.unmount("base");
    }

    let wrong = MountOptions {
        options: vec!["no_such_option=1".to_owned()],
        ..MountOptions::default()
    };
    let error = home.mount_with("base", &wrong).unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    assert!(text.contains("no_such_option"), "{text}");
    assert!(!home.driver.is_mounted(&root).unwrap());
}

#[test]
fn a_volatile_layer_is_mounted_again() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    home.layer("top", Some("base"), &[]);
    for round in 0..2 {
        let root = home.mount_with("top", &volatile()).unwrap();
        fs::write(root.join(format!("file{round}")), "").unwrap();
        assert!(line(&root).unwrap().super_options.ends_with(b"volatile"));
        home.unmount("top");
        // The kernel leaves its mark although the mount ended well.
        assert!(
            home.layer_path("top")
                .join("work/work/incompat/volatile")
                .exists()
        );
    }
    let root = home.mount("top");
    assert!(root.join("file0").exists() && root.join("file1").exists());
    home.unmount("top");
}

#[test]
fn a_mount_point_is_made_and_may_be_anywhere() {
    let home = Home::overlay();
    home.layer("base", None, &[("file", "x")]);
    let merged = home.driver.default_mount_point("base");
    fs::remove_dir(&merged).unwrap();
    assert_eq!(home.mount("base"), merged);
    assert!(home.driver.is_mounted(&merged).unwrap());
    home.unmount("base");
    assert!(!home.driver.is_mounted(&merged).unwrap());

    let place = home.aside("volume");
    home.driver
        .mount("base", &place, &MountOptions::default())
        .unwrap();
    assert_eq!(read(place.join("file")), "x");
    assert!(!home.driver.is_mounted(&merged).unwrap());
    home.driver.unmount("base", &place).unwrap();
    assert!(!home.driver.is_mounted(&place).unwrap());
    assert!(!home.driver.is_mounted(&home.aside("nowhere")).unwrap());
}

/// A Go tool's first call binds the driver home over itself: staging area and home are two file systems then.
#[test]
fn a_home_that_is_bound_over_itself_takes_and_gives_layers() {
    let mut home = Home::overlay();
    home.layer("before", None, &[("file", "x")]);
    let folder = home.graph.join("overlay");
    mount::bind(&folder, &folder, Flags::default()).unwrap();
    for is_new_process in [false, true] {
        if is_new_process {
            home.reopen();
        }
        home.layer("after", Some("before"), &[]);
        let root = home.mount("after");
        assert_eq!(read(root.join("file")), "x");
        home.unmount("after");
        assert!(home.discard("after"));
    }
    assert_eq!(home.driver.list().unwrap(), ["before"]);
    // A shutdown takes such a bind down, as peers' does.
    home.driver.shutdown().unwrap();
    assert_eq!(mount::mount_id(&folder).unwrap(), None);
}

/// A program was killed between mounting and recording it. The next one mounted again, above it, and unmounted one of
/// the two; the other went to the trash with the layer, where nothing could remove it.
#[test]
fn a_mount_that_nobody_recorded_is_taken_over_and_goes_with_its_layer() {
    let home = Home::overlay();
    home.layer("base", None, &[("file", "base")]);
    let merged = home.mount("base");
    assert_eq!(home.mount("base"), merged);
    home.unmount("base");
    assert!(!home.driver.is_mounted(&merged).unwrap());
    home.mount("base");
    home.discard("base");
    let graph = home.layer_path("base");
    let graph = graph.ancestors().nth(2).unwrap();
    let left = mount_table::read().unwrap();
    let left = left
        .iter()
        .filter(|line| line.mount_point.starts_with(graph) && line.mount_point.ends_with("merged"));
    assert_eq!(left.count(), 0);
}

/// What peers mounted below a home that was bound over itself later is in the table, but nobody sees it.
#[test]
fn a_hidden_mount_does_not_count() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    let merged = home.mount("base");
    assert!(home.driver.is_mounted(&merged).unwrap());
    let folder = home.graph.join("overlay");
    mount::bind(&folder, &folder, Flags::default()).unwrap();
    assert!(line(&merged).is_some());
    assert!(!home.driver.is_mounted(&merged).unwrap());
}

/// Another file system at the home is the administrator's: no rename reaches below it, no shutdown takes it away.
#[test]
fn a_file_system_mounted_at_the_home_stays() {
    let home = Home::overlay();
    let folder = home.graph.join("overlay");
    let name = home.try_prepare(None, |_| {}).unwrap();
    rustix::mount::mount(
        "none",
        &folder,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        c"",
    )
    .unwrap();
    let driver = home.try_reopen().unwrap();
    assert!(driver.adopt(&home.staging, &name, "base").is_err());
    driver.shutdown().unwrap();
    assert!(mount::is_mount_point(&folder).unwrap());
    mount::unmount(&folder).unwrap();
    assert!(home.driver.list().unwrap().is_empty());
}

#[test]
fn binds_have_properties_of_their_own() {
    enter();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for path in [&source, &target] {
        fs::create_dir(path).unwrap();
    }
    let flags = Flags {
        read_only: true,
        no_devices: true,
        no_set_id: true,
        no_exec: true,
        no_access_time: true,
        no_directory_access_time: true,
        ..Flags::default()
    };
    mount::bind(&source, &target, flags).unwrap();
    assert_eq!(
        line(&target).unwrap().options,
        "ro,nosuid,nodev,noexec,noatime,nodiratime"
    );
    let place = mount::place(&target).unwrap().unwrap();
    assert_eq!(place.flags, flags);
    assert_eq!(place.inode, mount::place(&source).unwrap().unwrap().inode);
    assert!(fs::write(target.join("file"), "").is_err());
    fs::write(source.join("file"), "").unwrap();
    let busy = fs::File::open(target.join("file")).unwrap();
    assert!(mount::unmount_unused(&target).is_err());
    drop(busy);
    assert!(mount::unmount_unused(&target).unwrap());
    assert!(!mount::unmount(&target).unwrap());
    assert!(!mount::unmount(&folder.path().join("nowhere")).unwrap());
    assert_eq!(mount::place(&folder.path().join("nowhere")).unwrap(), None);

    // Through a link at the target nothing is mounted.
    std::os::unix::fs::symlink(&target, folder.path().join("link")).unwrap();
    assert!(mount::bind(&source, &folder.path().join("link"), flags).is_err());
}
