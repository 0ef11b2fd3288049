//! The btrfs driver alone: subvolumes, snapshots, limits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata::store::driver::{DriverError, DriverKind, Limits, MountOptions, PrepareOptions};
use strata::sys::{Dir, btrfs, mount};

use crate::fixture::{Home, delete, mode, read};

fn home(options: &[&str]) -> Home {
    Home::with(DriverKind::Btrfs, "graph", options, &[])
}

fn tree(home: &Home, id: &str) -> std::path::PathBuf {
    home.graph.join("btrfs/subvolumes").join(id)
}

fn limit_of(home: &Home, id: &str) -> Option<String> {
    fs::read_to_string(home.graph.join("btrfs/quotas").join(id)).ok()
}

/// Makes a layer for a container.
fn container(home: &Home, id: &str, size: Option<u64>) -> Result<(), DriverError> {
    home.staging.create_dir(id, 0o700).unwrap();
    let at = home.staging.open_dir(id).unwrap();
    let options = PrepareOptions {
        read_write: true,
        limits: Limits {
            size,
            ..Limits::default()
        },
        ..PrepareOptions::default()
    };
    home.driver.prepare(&at, Some("base"), &options)?;
    home.driver.adopt(&home.staging, id, id)
}

/// Writes until something stops it; how many MiB went in.
fn fill(path: &Path) -> usize {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    (0..64)
        .take_while(|_| {
            let written = file.write_all(&[7; 1 << 20]);
            written.and_then(|()| file.sync_data()).is_ok()
        })
        .count()
}

#[test]
fn a_layer_is_a_subvolume_and_a_child_shares_its_blocks() {
    let home = home(&[]);
    home.layer_with("base", None, |root| {
        fs::write(root.join("big"), vec![7; 32 << 20]).unwrap();
        fs::write(root.join("gone"), "").unwrap();
    });
    let used = || {
        Dir::open(&home.graph).unwrap().sync_file_system().unwrap();
        rustix::fs::statvfs(&home.graph).unwrap()
    };
    let before = used();
    for number in 0..8 {
        home.layer_with(&format!("child{number}"), Some("base"), |root| {
            delete(&*home.driver, root, "gone");
        });
    }
    let after = used();
    let grown = (before.f_bfree - after.f_bfree) * before.f_frsize;
    assert!(grown < 16 << 20, "eight children take {grown} bytes");
    for id in ["base", "child0"] {
        let dir = Dir::open(tree(&home, id)).unwrap();
        assert!(btrfs::is_subvolume(&dir).unwrap());
        assert_eq!(mode(dir.path()), 0o555);
    }
    assert!(tree(&home, "base").join("gone").exists());
    assert!(!tree(&home, "child0").join("gone").exists());
    let inode = |id: &str| fs::metadata(tree(&home, id).join("big")).unwrap().ino();
    assert_eq!(inode("base"), inode("child7"));
}

#[test]
fn a_subvolume_inside_a_layer_is_removed_with_it() {
    let home = home(&[]);
    home.layer("base", None, &[("file", "")]);
    let root = Dir::open(tree(&home, "base")).unwrap();
    let mut here = root.try_clone().unwrap();
    // Deeper than what is open at once.
    for level in 0..100 {
        let name = format!("v{level}");
        here.create_subvolume(&name).unwrap();
        here = here.open_dir(&name).unwrap();
        here.write_new("file", b"x", 0o600).unwrap();
        here.create_dir("d", 0o700).unwrap();
        here = here.open_dir("d").unwrap();
    }
    drop((here, root));
    assert!(home.driver.discard("base", &home.staging, "trash").unwrap());
    assert!(home.staging.remove_tree("trash").unwrap());
    assert!(!home.graph.join("staging/trash").exists());
    assert!(home.driver.list().unwrap().is_empty());
}

#[test]
fn a_mount_below_a_removed_tree_is_not_emptied() {
    let home = home(&[]);
    home.layer("base", None, &[]);
    home.layer("other", None, &[("kept", "x")]);
    let trap = tree(&home, "base").join("trap");
    fs::create_dir(&trap).unwrap();
    mount::bind(&tree(&home, "other"), &trap, mount::Flags::default()).unwrap();
    let folder = Dir::open(home.graph.join("btrfs/subvolumes")).unwrap();
    let inside = folder.open_dir("base").unwrap();
    assert!(inside.remove_contents().is_err());
    assert_eq!(read(tree(&home, "other").join("kept")), "x");
    mount::unmount(&trap).unwrap();
}

#[test]
fn a_limit_holds_and_is_recorded_and_goes_with_the_layer() {
    let mut home = home(&["btrfs.size=24m", "btrfs.min_space=1m"]);
    home.layer("base", None, &[("file", "base")]);
    assert_eq!(limit_of(&home, "base"), None);
    container(&home, "usual", None).unwrap();
    container(&home, "small", Some(8 << 20)).unwrap();
    container(&home, "free", Some(0)).unwrap();
    assert_eq!(limit_of(&home, "usual").unwrap(), (24 << 20).to_string());
    assert_eq!(limit_of(&home, "small").unwrap(), (8 << 20).to_string());
    assert_eq!(limit_of(&home, "free"), None);
    let filled = |id: &str| fill(&home.mount(id).join("filled"));
    assert!((4..=8).contains(&filled("small")));
    assert!((16..=24).contains(&filled("usual")));
    assert_eq!(filled("free"), 64);

    let error = container(&home, "tiny", Some(4096)).unwrap_err();
    assert!(matches!(error, DriverError::TooSmall { size: 4096, .. }));
    assert!(!home.driver.exists("tiny").unwrap());

    // As after a restore from a backup without limits: mounting sets it again.
    home.reopen();
    fs::remove_file(home.mount("small").join("filled")).unwrap();
    let dir = Dir::open(tree(&home, "small")).unwrap();
    dir.limit_subvolume(1 << 30).unwrap();
    home.mount("small");
    assert!(fill(&tree(&home, "small").join("filled")) <= 8);

    assert!(home.discard("small"));
    assert_eq!(limit_of(&home, "small"), None);
    fs::write(home.graph.join("btrfs/quotas/usual"), "much").unwrap();
    let error = home
        .mount_with("usual", &MountOptions::default())
        .unwrap_err();
    assert!(matches!(error, DriverError::Damaged { .. }), "{error}");
}

#[test]
fn a_home_that_is_bound_over_itself_takes_and_gives_layers() {
    let mut home = home(&["btrfs.size=24m"]);
    home.layer("base", None, &[("file", "x")]);
    let place = home.graph.join("btrfs");
    mount::make_private(&place).unwrap();
    home.reopen();
    container(&home, "child", None).unwrap();
    assert_eq!(read(home.mount("child").join("file")), "x");
    assert!(home.discard("child"));
    home.driver.shutdown().unwrap();
    assert!(!mount::is_mount_point(&place).unwrap());
    assert!(home.driver.exists("base").unwrap());
}

#[test]
fn another_file_system_can_not_be_a_home() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let roots = strata::store::driver::Roots {
        graph: &dir,
        graph_path: folder.path(),
        run: &dir,
        run_path: folder.path(),
        additional: Vec::new(),
        no_id_mapped_mounts: false,
        is_read_only: false,
        is_for_images: false,
    };
    let error = strata::store::driver::open(DriverKind::Btrfs, &roots, &[]).unwrap_err();
    assert!(matches!(error, DriverError::Prerequisites(_)), "{error}");
    assert!(!folder.path().join("btrfs").exists());
}
