//! What the kernel alone takes for a publish and an unpublish: the same directories, two record files
//! of the size that the plugin's then have, one overlay mount and one bind, with the same syncs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

/// A place for bare volumes beside the plugin's store, on the same file system.
#[derive(Debug)]
pub struct Floor {
    folder: PathBuf,
    lowers: String,
    records: Vec<u8>,
}

impl Floor {
    /// Volumes over the layer directories `lowers`, nearest first.
    pub fn new(folder: &Path, lowers: &[PathBuf]) -> Self {
        for name in ["layers", "volumes", "targets", "records"] {
            fs::create_dir_all(folder.join(name)).expect("a folder can be made");
        }
        let lowers: Vec<_> = lowers.iter().map(|path| path.to_str().unwrap()).collect();
        Self {
            folder: folder.to_owned(),
            lowers: lowers.join(":"),
            records: vec![b' '; 1 << 24],
        }
    }

    fn path(&self, kind: &str, id: usize) -> PathBuf {
        self.folder.join(kind).join(id.to_string())
    }

    fn write_records(&self, sizes: [usize; 2]) {
        for (name, size) in [("layers", sizes[0]), ("containers", sizes[1])] {
            let folder = self.folder.join("records");
            let new = folder.join(".new");
            let mut file = fs::File::create(&new).unwrap();
            file.write_all(&self.records[..size]).unwrap();
            file.sync_data().unwrap();
            fs::rename(&new, folder.join(name)).unwrap();
        }
    }

    pub fn publish(&self, id: usize, sizes: [usize; 2]) {
        let layer = self.path("layers", id);
        fs::create_dir(&layer).unwrap();
        for name in ["diff", "work"] {
            fs::create_dir(layer.join(name)).unwrap();
        }
        self.write_records(sizes);
        let merged = self.path("volumes", id);
        fs::create_dir(&merged).unwrap();
        let options = format!(
            "lowerdir={},upperdir={}/diff,workdir={}/work,volatile",
            self.lowers,
            layer.display(),
            layer.display()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount(
            "overlay",
            &merged,
            "overlay",
            MountFlags::NODEV | MountFlags::NOSUID,
            options.as_c_str(),
        )
        .unwrap();
        let target = self.path("targets", id);
        fs::create_dir(&target).unwrap();
        mount_bind(&merged, &target).unwrap();
    }

    pub fn unpublish(&self, id: usize, sizes: [usize; 2]) {
        let (layer, merged, target) = (
            self.path("layers", id),
            self.path("volumes", id),
            self.path("targets", id),
        );
        unmount(&target, UnmountFlags::empty()).unwrap();
        fs::remove_dir(&target).unwrap();
        unmount(&merged, UnmountFlags::empty()).unwrap();
        fs::remove_dir(&merged).unwrap();
        self.write_records(sizes);
        fs::remove_dir_all(&layer).unwrap();
    }
}
