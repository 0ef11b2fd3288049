//! The guest's disks for data, by serial number, and file systems on them.

use std::fs;
use std::path::{Path, PathBuf};

use super::place;
use crate::support::tool::Tool;

/// The file systems that stores are tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    pub fn parse(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .unwrap_or_else(|| panic!("no file system {name:?}: ext4 or xfs"))
    }

    /// The disk of this kind: `run-guest` is given one for each, in the order of [`Kind::ALL`]. `STRATA_DISKS` names them
    /// in a machine whose disks have no such serial numbers.
    pub fn device(self) -> PathBuf {
        if let Some(disks) = std::env::var_os("STRATA_DISKS") {
            let disk = std::env::split_paths(&disks).nth(self as usize);
            return disk.expect("STRATA_DISKS names a disk for each file system");
        }
        let serial = format!("data{}", self as usize);
        fs::read_dir("/sys/block")
            .expect("the list of disks can be read")
            .map(|entry| entry.expect("a disk").path())
            .find(|path| {
                fs::read_to_string(path.join("serial")).is_ok_and(|text| text.trim() == serial)
            })
            .and_then(|path| Some(Path::new("/dev").join(path.file_name()?)))
            .unwrap_or_else(|| panic!("no disk with the serial number {serial}"))
    }

    /// Makes the file system, empty, with what project quotas need.
    pub fn make(self) {
        let tool = match self {
            Self::Ext4 => Tool::new("mkfs.ext4").args([
                "-q",
                "-F",
                "-O",
                "quota,project",
                "-E",
                "quotatype=usrquota:grpquota:prjquota,lazy_itable_init=1,lazy_journal_init=1",
            ]),
            Self::Xfs => Tool::new("mkfs.xfs").args(["-q", "-f"]),
        };
        tool.arg(self.device()).ok();
    }

    /// Makes a plain one, of so many bytes.
    pub fn make_small(self, size: u64) {
        let size = size / 1024;
        match self {
            Self::Ext4 => Tool::new("mkfs.ext4")
                .args(["-q", "-F"])
                .arg(self.device())
                .arg(format!("{size}k")),
            Self::Xfs => Tool::new("mkfs.xfs")
                .args(["-q", "-f", "-K", "-d", &format!("size={size}k")])
                .arg(self.device()),
        }
        .ok();
    }

    /// Mounts it at `/disk/NAME`, with project quotas in force.
    pub fn mount(self) -> PathBuf {
        self.mount_with(&self.device(), "prjquota")
    }

    /// Mounts what is on `device` there.
    pub fn mount_with(self, device: &Path, options: &str) -> PathBuf {
        let folder = place::at("/disk").join(self.name());
        fs::create_dir_all(&folder).expect("a mount point can be made");
        Tool::new("mount")
            .args(["-t", self.name(), "-o", options])
            .arg(device)
            .arg(&folder)
            .ok();
        folder
    }
}
