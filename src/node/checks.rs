//! What a node must have before volumes can be made on it: looked for at start and then again and again,
//! so that it is told where operators look, and not found out by the first pod.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::store;
use crate::sys::{self, Dir, mount_table};

/// A pool with less than this of its size left is full, but never with more than that many bytes.
const FULL_PART: u64 = 100;
const FULL_BYTES: u64 = 256 << 20;

/// File systems that can't carry an overlay's upper directory, by the numbers that `statfs` has for them.
const UNSUITABLE: [(u64, &str); 7] = [
    (0x794c_7630, "an overlay, which can't carry another"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x4d44, "FAT"),
];

/// The oldest kernel that the README promises, by major and minor number.
const KERNEL: (u32, u32) = (6, 1);

/// Something that the node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What helps.
    pub remedy: &'static str,
    /// Whether no volume can be made at all.
    pub is_fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Where volumes are kept.
    pub graph: PathBuf,
    /// Directories whose mounts others must see; empty where the kubelet has the plugin's own mounts.
    pub shared: Vec<PathBuf>,
    /// Whether volumes are overlays.
    pub is_overlay: bool,
}

impl Needs {
    /// What a store and a kubelet's directory need. In a pod, mounts must go out of it.
    pub fn of(config: &store::Config, kubelet: &Path, is_in_pod: bool) -> Self {
        let graph = or_default(&config.graph_root, store::config::DEFAULT_GRAPH_ROOT);
        let run = or_default(&config.run_root, store::config::DEFAULT_RUN_ROOT);
        let shared = if is_in_pod {
            vec![kubelet.join("pods"), run]
        } else {
            Vec::new()
        };
        Self {
            graph,
            shared,
            // Without a name the store itself decides, and says what is wrong.
            is_overlay: config
                .driver
                .as_deref()
                .is_some_and(|name| name.starts_with("overlay")),
        }
    }

    /// Looks; changes nothing. What can't be looked at is no problem here: whoever uses it will tell.
    pub fn look(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let release = rustix::system::uname();
        problems.extend(old_kernel(&release.release().to_string_lossy()));
        if self.is_overlay {
            problems.extend(self.overlay());
            problems.extend(self.pool());
        }
        problems.extend(self.propagation());
        problems.extend(self.room());
        problems
    }

    fn overlay(&self) -> Option<Problem> {
        let known = Dir::open("/proc")
            .and_then(|proc| proc.read("filesystems"))
            .ok()?;
        let is_known = is_listed(&known, "overlay") || sys::mount::has_overlay();
        (!is_known).then(|| Problem {
            what: "the kernel has no overlay file system".to_owned(),
            remedy: "load its module (modprobe overlay), and at each boot: /etc/modules-load.d",
            is_fatal: true,
        })
    }

    fn pool(&self) -> Option<Problem> {
        let found = rustix::fs::statfs(nearest(&self.graph)?.path()).ok()?;
        // The kernel's number has 32 bits, whatever the type says.
        let number = found.f_type as u64 & 0xffff_ffff;
        let (_, name) = UNSUITABLE.iter().find(|(kind, _)| *kind == number)?;
        Some(Problem {
            what: format!("the pool {} lies on {name}", self.graph.display()),
            remedy: "put it on a directory of ext4, xfs or btrfs: pool.path of the chart, --graph",
            is_fatal: true,
        })
    }

    fn propagation(&self) -> Vec<Problem> {
        if self.shared.is_empty() {
            return Vec::new();
        }
        let Ok(table) = mount_table::read() else {
            return Vec::new();
        };
        self.shared
            .iter()
            .filter(|path| mount_table::around(&table, path).is_some_and(|mount| !mount.is_shared))
            .map(|path| Problem {
                what: format!(
                    "mounts in {} stay in the plugin's container: pods would see empty volumes",
                    path.display()
                ),
                remedy: "make it shared on the node (mount --make-rshared /) and mount it into the \
                         container with mountPropagation: Bidirectional",
                is_fatal: true,
            })
            .collect()
    }

    fn room(&self) -> Option<Problem> {
        let found = rustix::fs::statvfs(nearest(&self.graph)?.path()).ok()?;
        let unit = found.f_frsize;
        let what = lack(
            found.f_blocks.saturating_mul(unit),
            found.f_bavail.saturating_mul(unit),
            (found.f_files, found.f_favail),
        )?;
        Some(Problem {
            what: format!("the pool {} is full: {what}", self.graph.display()),
            remedy: "delete what is not needed there, or enlarge its file system",
            is_fatal: false,
        })
    }
}

/// A kernel before [`KERNEL`], by its release: volumes may well work there, but nobody knows.
fn old_kernel(release: &str) -> Option<Problem> {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) < KERNEL).then(|| Problem {
        what: format!(
            "the node's Linux {release} is older than {}.{}",
            KERNEL.0, KERNEL.1
        ),
        remedy: "upgrade its kernel: volumes are not tested on older ones",
        is_fatal: false,
    })
}

fn or_default(path: &Path, default: &str) -> PathBuf {
    if path.as_os_str().is_empty() {
        default.into()
    } else {
        path.to_owned()
    }
}

/// The directory itself, or the one in which it will be made.
fn nearest(path: &Path) -> Option<Dir> {
    path.ancestors().find_map(|path| Dir::open(path).ok())
}

/// Whether the kernel's list of file systems has a name.
fn is_listed(list: &[u8], name: &str) -> bool {
    String::from_utf8_lossy(list)
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
}

/// What a file system has too little of; file systems without a table of inodes have none in all.
fn lack(total: u64, available: u64, (inodes, free): (u64, u64)) -> Option<String> {
    if available < (total / FULL_PART).min(FULL_BYTES) || available == 0 {
        return Some(format!(
            "{} of {} MB are free",
            available / 1_000_000,
            total / 1_000_000
        ));
    }
    (inodes > 0 && free < inodes / 1000).then(|| format!("{free} of {inodes} inodes are free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_one_part_in_a_hundred() {
        const GB: u64 = 1_000_000_000;
        let inodes = (1_000_000, 500_000);
        assert_eq!(lack(10 * GB, GB, inodes), None);
        assert_eq!(
            lack(10 * GB, GB / 20, inodes).unwrap(),
            "50 of 10000 MB are free"
        );
        assert_eq!(
            lack(1000 * GB, GB, inodes),
            None,
            "a large one has more to go"
        );
        assert!(lack(1000 * GB, GB / 10, inodes).is_some());
        assert!(lack(10 * GB, GB, (1_000_000, 999)).is_some());
        assert_eq!(lack(10 * GB, GB, (0, 0)), None, "btrfs");
        assert!(lack(0, 0, (0, 0)).is_some());
    }

    #[test]
    fn old_kernels_are_named() {
        for release in ["6.1.0-13-amd64", "6.18.44", "10.0-rc1", "", "custom"] {
            assert_eq!(old_kernel(release), None, "{release}");
        }
        for release in ["5.10.0-26-cloud-amd64", "6.0.1", "4.18"] {
            let problem = old_kernel(release).unwrap();
            assert!(!problem.is_fatal && problem.what.contains(release));
        }
    }

    #[test]
    fn file_systems_are_found_by_their_whole_name() {
        let list = b"nodev\tproc\n\text4\nnodev\toverlay\n";
        assert!(is_listed(list, "overlay") && is_listed(list, "ext4"));
        assert!(!is_listed(list, "over") && !is_listed(list, "nodev"));
    }

    #[test]
    fn a_pool_that_is_missing_is_looked_for_above() {
        let temp = tempfile::tempdir().unwrap();
        let needs = Needs {
            graph: temp.path().join("a/b"),
            shared: Vec::new(),
            is_overlay: true,
        };
        let fatal = needs.look().into_iter().find(|problem| problem.is_fatal);
        assert_eq!(fatal, None);
        assert_eq!(nearest(&needs.graph).unwrap().path(), temp.path());
    }

    #[test]
    fn only_a_pod_needs_shared_mounts() {
        let mut config = store::Config::in_roots("/graph", "/run/strata");
        let of = |config: &store::Config, pod| Needs::of(config, Path::new("/kubelet"), pod);
        assert!(of(&config, false).shared.is_empty());
        let shared = of(&config, true).shared;
        assert_eq!(
            shared,
            [Path::new("/kubelet/pods"), Path::new("/run/strata")]
        );
        assert!(!of(&config, true).is_overlay);
        config.driver = Some("overlay".to_owned());
        assert!(of(&config, true).is_overlay);
    }
}
