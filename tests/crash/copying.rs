//! Copies of stores as they are, subvolumes of btrfs among them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata::sys::Dir;

use super::support::tool::Tool;

/// Copies what is in the folder `from` to the folder `to`, which is made. What is mounted on it stays behind, subvolumes
/// become snapshots.
pub fn tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    Tool::new("cp")
        .args(["-a", "--one-file-system"])
        .arg(from.join("."))
        .arg(to)
        .ok();
    let dir = Dir::open(from).expect("a folder can be opened");
    if strata::sys::btrfs::is_on_btrfs(&dir).expect("its file system can be asked") {
        subvolumes(from, to, device(from));
    }
}

fn device(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("an entry's data").dev()
}

/// cp has left an empty folder in the place of each subvolume.
fn subvolumes(from: &Path, to: &Path, own: u64) {
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("an entry");
        if !entry.file_type().expect("its type").is_dir() {
            continue;
        }
        let (source, name) = (entry.path(), entry.file_name());
        if device(&source) == own {
            subvolumes(&source, &to.join(&name), own);
            continue;
        }
        let source = Dir::open(&source).expect("a folder can be opened");
        if strata::sys::btrfs::is_subvolume(&source).expect("it can be asked") {
            fs::remove_dir(to.join(&name)).expect("an empty folder can be removed");
            Dir::open(to)
                .and_then(|target| target.snapshot(&name, &source))
                .expect("a snapshot can be made");
        }
    }
}
