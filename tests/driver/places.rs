//! The conformance suite on other file systems, as root of the machine and as root of a user name space.
//!
//! Each test here runs this test program once more, for the tests of one driver, with homes on a file system of its own.

use std::os::fd::AsRawFd;
use std::path::Path;

use strata::store::driver::DriverKind;
use strata::sys::Dir;
use strata::sys::mount::{self, Flags};
use strata::sys::userns::{Range, UserNamespace};
use tempfile::TempDir;

use crate::fixture::{Home, PLACE, enter};
use crate::support::disk;
pub use crate::support::disk::FileSystem;
use crate::support::tool::Tool;

/// A file system of its own, for this thread and its children until it is dropped.
#[derive(Debug)]
pub struct Disk {
    // It is unmounted before its folder goes. Homes on it that still have mounts end with this thread's name space.
    disk: disk::Disk,
    _folder: TempDir,
}

impl Disk {
    pub fn new(kind: FileSystem) -> Self {
        enter();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self {
            disk: disk::Disk::below(folder.path(), kind),
            _folder: folder,
        }
    }

    pub fn path(&self) -> &Path {
        self.disk.path()
    }
}

/// Makes the device of FUSE everybody's for this thread and its children, as udev does; a container's may be root's alone.
const FUSE: &str = "mkdir dev; mount -t tmpfs dev dev; mknod -m 666 dev/fuse c 10 229; mount --bind dev/fuse /dev/fuse";

/// Runs the tests of the driver `name` with homes on a file system of this kind.
fn run(name: &str, kind: FileSystem, is_rootless: bool) {
    let disk = Disk::new(kind);
    let program = std::env::current_exe().unwrap();
    let mut place = disk.path().to_owned();
    let mut tool;
    // Nobody but root may look into the folder of the build.
    let open = tempfile::tempdir().unwrap();
    let range = Range {
        inside: 0,
        outside: 100_000,
        size: 65_536,
    };
    let namespace = UserNamespace::new(&[range], &[range]).unwrap();
    if is_rootless {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(open.path(), everybody).unwrap();
        place = open.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let copy = open.path().join("program");
        std::fs::File::create(&copy).unwrap();
        mount::bind(disk.path(), &place, Flags::default()).unwrap();
        mount::bind(&program, &copy, Flags::default()).unwrap();
        if name == "program" {
            Tool::new("sh").args(["-ec", FUSE]).within(open.path()).ok();
        }
        std::os::unix::fs::chown(&place, Some(100_000), Some(100_000)).unwrap();
        let descriptor = std::os::fd::AsFd::as_fd(&namespace).as_raw_fd();
        tool = Tool::new("nsenter")
            .arg(format!(
                "--user=/proc/{}/fd/{descriptor}",
                std::process::id()
            ))
            .args(["--setuid", "0", "--setgid", "0"])
            .arg(copy);
    } else {
        tool = Tool::at(&program);
    }
    tool = tool
        .arg(format!("conformance::{name}::"))
        .args(["--test-threads", "2"])
        .env(PLACE, &place);
    let output = tool.ok().text();
    let summary = output.lines().find(|line| line.starts_with("test result"));
    let summary = summary.unwrap_or_else(|| panic!("{output}"));
    let passed = summary
        .strip_prefix("test result: ok. ")
        .and_then(|rest| rest.split_once(" passed; 0 failed; 0 ignored"))
        .and_then(|(number, _)| number.parse().ok());
    assert!(passed >= Some(11), "{output}");
    if is_rootless {
        let mut mounts = vec![place, open.path().join("program")];
        if name == "program" {
            mounts.extend(["/dev/fuse".into(), open.path().join("dev")]);
        }
        for path in mounts {
            assert!(mount::unmount(&path).unwrap());
        }
    }
}

macro_rules! places {
    ($($test:ident: $name:literal, $kind:ident, $is_rootless:literal;)*) => {
        $(#[test]
        fn $test() {
            run($name, FileSystem::$kind, $is_rootless);
        })*
    };
}

places! {
    overlay_on_ext4: "overlay", Ext4, false;
    overlay_on_xfs: "overlay", Xfs, false;
    overlay_on_btrfs: "overlay", Btrfs, false;
    vfs_on_ext4: "vfs", Ext4, false;
    vfs_on_xfs: "vfs", Xfs, false;
    vfs_on_btrfs: "vfs", Btrfs, false;
    btrfs_on_one_btrfs: "btrfs", Btrfs, false;
    rootless_overlay_on_ext4: "overlay", Ext4, true;
    rootless_overlay_on_xfs: "overlay", Xfs, true;
    rootless_overlay_on_btrfs: "overlay", Btrfs, true;
    rootless_program_on_ext4: "program", Ext4, true;
    rootless_vfs_on_ext4: "vfs", Ext4, true;
    rootless_vfs_on_xfs: "vfs", Xfs, true;
    rootless_vfs_on_btrfs: "vfs", Btrfs, true;
    rootless_btrfs: "btrfs", Btrfs, true;
}

#[test]
fn vfs_shares_blocks_where_the_file_system_can() {
    for kind in [FileSystem::Xfs, FileSystem::Btrfs] {
        let disk = Disk::new(kind);
        let home = Home::at(DriverKind::Vfs, disk.path());
        home.layer_with("base", None, |root| {
            std::fs::write(root.join("big"), vec![7; 32 << 20]).unwrap();
        });
        let free = || {
            Dir::open(disk.path()).unwrap().sync_file_system().unwrap();
            let stat = rustix::fs::statvfs(disk.path()).unwrap();
            stat.f_bfree * stat.f_frsize
        };
        let before = free();
        home.layer("child", Some("base"), &[]);
        let grown = before - free();
        assert!(grown < 4 << 20, "a child on {kind:?} takes {grown} bytes");
        let child = home.driver.content("child").unwrap();
        assert_eq!(child.read("big").unwrap(), vec![7; 32 << 20]);
    }
}
