//! `force_mask`: files that are all of one mode on disk, and of another where they are seen.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata::archive::override_stat;
use strata::archive::unpack::{self, unpack};
use strata::store::driver::{Base, DriverError, DriverKind, PrepareOptions};
use strata::sys::Dir;

use crate::fixture::{Home, mode, read};
use crate::support::tool::Tool;

const SHARED: &[&str] = &["overlay.force_mask=shared"];
const PROGRAM: &[&str] = &[
    "overlay.force_mask=shared",
    "overlay.mount_program=/usr/bin/fuse-overlayfs",
];
const CONTAINER: PrepareOptions = PrepareOptions {
    read_write: true,
    durable: false,
    parent_comes_later: false,
    root: (0, 0),
    limits: strata::store::driver::Limits {
        size: None,
        inodes: None,
    },
};

fn home(options: &[&str]) -> Home {
    Home::with(DriverKind::Overlay, "graph", options, &[])
}

/// What a file or directory is meant to be.
fn meant(path: &Path) -> String {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    let value = dir.attribute(path.file_name().unwrap(), override_stat::KEY);
    String::from_utf8(value.unwrap().unwrap_or_default()).unwrap()
}

/// An archive of files that a mask must not lose.
fn archive(home: &Home) -> Vec<u8> {
    let source = home.aside("source");
    let script = "rm -rf source; mkdir -p source/bin source/secret; echo run > source/bin/tool; chown 7:8 source/bin/tool; \
        chmod 4711 source/bin/tool; chmod 1770 source/secret; mkfifo -m 620 source/pipe; \
        mknod -m 660 source/null c 1 3; ln -s tool source/bin/link; ln source/bin/tool source/bin/hard; \
        touch -d @1600000000 source/bin/tool source/null source/pipe; \
        find source -type d -exec touch -d @1600000000 {} +";
    let folder = source.parent().unwrap();
    Tool::new("sh").args(["-ec", script]).within(folder).ok();
    let archive = Tool::new("tar").args(["-C", "source", "--sort=name", "--format=posix"]);
    archive
        .args(["--pax-option=delete=atime,delete=ctime", "-cf", "-"])
        .args(["bin", "null", "pipe", "secret"])
        .within(folder)
        .ok()
        .stdout
}

/// A layer of that archive.
fn layer(home: &Home, id: &str) {
    let archive = archive(home);
    let options = unpack::Options {
        force_mask: home.driver.force_mask(),
        ..unpack::Options::new(home.driver.whiteouts())
    };
    home.layer_with(id, None, |root| {
        let root = Dir::open(root).unwrap();
        unpack::<Vec<u8>>(&*archive, &root, &options, None).unwrap();
    });
}

#[test]
fn everything_has_one_mode_and_an_attribute_with_the_truth() {
    let home = home(SHARED);
    layer(&home, "base");
    let diff = home.layer_path("base").join("diff");
    for (name, expected) in [
        ("", "0:0:0555:dir"),
        ("bin", "0:0:0755:dir"),
        ("bin/tool", "7:8:4711:file"),
        ("secret", "0:0:1770:dir"),
        ("pipe", "0:0:0620:pipe"),
        ("null", "0:0:0660:char-1-3"),
    ] {
        let path = diff.join(name);
        let stat = fs::symlink_metadata(&path).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (0, 0), "{name}");
        assert_eq!(mode(&path), 0o755, "{name}");
        assert!(stat.is_dir() || stat.is_file(), "{name}");
        // Without a slash at its end.
        let path: std::path::PathBuf = path.components().collect();
        assert_eq!(meant(&path), expected, "{name}");
    }
    assert_eq!(read(diff.join("bin/tool")), "run\n");
}

#[test]
fn a_diff_tells_the_truth_and_not_what_is_on_disk() {
    for options in [SHARED, PROGRAM] {
        let home = home(options);
        layer(&home, "base");
        let mut out = Vec::new();
        let base = "base".into();
        home.driver.diff(&base, &Base::Below, &mut out).unwrap();
        let list = |archive: &[u8]| {
            let list = Tool::new("tar").args(["--numeric-owner", "--full-time", "-tvf", "-"]);
            let mut lines: Vec<_> = list
                .input(archive)
                .ok()
                .text()
                .lines()
                // A link's owner and time have no place on disk, and which of two names is the link does not matter.
                .filter(|line| {
                    !line.contains("link") && !line.contains("bin/tool") && !line.contains("hard")
                })
                // The columns are as wide as the longest entry.
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(list(&out), list(&archive(&home)), "{options:?}");
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(!text.contains("override_stat"), "{options:?}");
        let listed = Tool::new("tar").args(["--numeric-owner", "-tvf", "-"]);
        let listed = listed.input(&*out).ok().text();
        let tool = listed
            .lines()
            .find(|line| line.starts_with("-rws--x--x 7/8"));
        assert!(tool.is_some(), "{listed}");
    }
}

#[test]
fn a_container_needs_a_program_that_shows_the_truth() {
    let home = home(SHARED);
    layer(&home, "base");
    let error = home
        .try_prepare_as(Some("base"), &CONTAINER, |_| {})
        .unwrap_err();
    assert!(matches!(error, DriverError::MaskNeedsProgram), "{error}");

    let home = self::home(PROGRAM);
    layer(&home, "base");
    let name = home.try_prepare_as(Some("base"), &CONTAINER, |_| {});
    home.driver
        .adopt(&home.staging, &name.unwrap(), "top")
        .unwrap();
    let root = home.mount("top");
    let seen = |name: &str| {
        let stat = fs::symlink_metadata(root.join(name)).unwrap();
        (stat.uid(), stat.gid(), stat.mode())
    };
    assert_eq!(seen("bin/tool"), (7, 8, 0o10_4711));
    assert_eq!(seen("secret"), (0, 0, 0o4_1770));
    // Debian's fuse-overlayfs 1.10 shows an empty file of that mode, newer ones the device.
    assert_eq!(seen("null").2 & 0o7777, 0o660);
    fs::write(root.join("bin/new"), "x").unwrap();
    std::os::unix::fs::chown(root.join("bin/new"), Some(9), Some(9)).unwrap();
    let new = seen("bin/new");
    assert_eq!((new.0, new.1), (9, 9));
    home.unmount("top");
}

#[test]
fn children_inherit_what_the_root_is_meant_to_be() {
    let home = home(SHARED);
    home.layer("base", None, &[]);
    let diff = |id: &str| home.layer_path(id).join("diff");
    let base = Dir::open(diff("base")).unwrap();
    base.set_attribute("", override_stat::KEY, b"7:8:0711:dir")
        .unwrap();
    home.layer("child", Some("base"), &[]);
    assert_eq!(meant(&diff("child")), "7:8:0711:dir");
    assert_eq!(mode(&diff("child")), 0o755);
    let stat = fs::metadata(diff("child")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (0, 0));

    // Without the mask, it is what it is meant to be.
    let plain = self::home(&[]);
    plain.layer("base", None, &[]);
    let base = Dir::open(plain.layer_path("base").join("diff")).unwrap();
    base.set_attribute("", override_stat::KEY, b"7:8:0711:dir")
        .unwrap();
    plain.layer("child", Some("base"), &[]);
    let child = plain.layer_path("child").join("diff");
    let stat = fs::metadata(&child).unwrap();
    assert_eq!((stat.uid(), stat.gid(), mode(&child)), (7, 8, 0o711));
    assert_eq!(meant(&child), "");
}
