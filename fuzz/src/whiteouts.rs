//! Layers of directories, files, links and deletions, unpacked into a directory: the bytes choose among few names, so that
//! they meet.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use strata::archive::tar_split;
use strata::archive::unpack::{self, Whiteouts};
use strata::sys::Dir;

use super::archive::member;
use super::plant;

const PARTS: [&str; 14] = [
    "a",
    "b",
    "c",
    "..",
    ".",
    "",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh..wh.plnk",
    ".wh.",
    ".wh..",
    ".wh...",
    "deep",
];
const TARGETS: [&str; 8] = [
    "a",
    "b",
    "../outside",
    "..",
    "/outside",
    "a/b",
    "../../../outside",
    ".",
];

/// Where layers are unpacked, and what must not change beside them.
struct Place {
    root: PathBuf,
    outside: PathBuf,
}

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = super::folder();
        let (root, outside) = (folder.join("root"), folder.join("outside"));
        fs::create_dir_all(&root).expect("a folder can be made");
        fs::create_dir_all(&outside).expect("a folder can be made");
        fs::write(outside.join("kept"), "kept").expect("a file can be written");
        Place { root, outside }
    })
}

/// Two layers, one over the other.
pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let place = place();
    let dir = Dir::open(&place.root).expect("the folder is there");
    let whiteouts = if how % 2 == 0 {
        Whiteouts::Apply
    } else {
        Whiteouts::Overlay {
            user_attributes: how % 4 == 1,
        }
    };
    let middle = data.len() / 2;
    let before = state(&place.outside);
    for data in [&data[..middle], &data[middle..]] {
        let layer = layer(data);
        unpack(&layer, &dir, whiteouts);
        // An overlay's layers lie in directories of their own.
        if whiteouts != Whiteouts::Apply {
            dir.remove_contents()
                .expect("what was unpacked can be removed");
        }
    }
    assert!(
        state(&place.outside) == before,
        "something outside has changed"
    );
    let names: Vec<_> = fs::read_dir(place.root.parent().expect("a parent"))
        .expect("the folder can be read")
        .collect();
    assert_eq!(names.len(), 2, "something new outside: {names:?}");
    dir.remove_contents()
        .expect("what was unpacked can be removed");
}

/// Four bytes a member: what, where, where to.
fn layer(data: &[u8]) -> Vec<u8> {
    let mut layer = Vec::new();
    for bytes in data.chunks_exact(4).take(24) {
        let part = |at: u8| PARTS[usize::from(at) % PARTS.len()];
        let name = match bytes[1] % 4 {
            0 => part(bytes[2]).to_owned(),
            1 => format!("{}/{}", part(bytes[2] >> 4), part(bytes[2])),
            2 => format!("/{}/{}", part(bytes[2] >> 4), part(bytes[2])),
            _ => format!("a/{}/{}", part(bytes[2] >> 4), part(bytes[2])),
        };
        let target = TARGETS[usize::from(bytes[3]) % TARGETS.len()];
        let (kind, link, payload): (u8, &str, &[u8]) = match bytes[0] % 8 {
            0 | 1 => (b'5', "", b""),
            2 => (b'2', target, b""),
            3 => (b'1', target, b""),
            4 => (b'6', "", b""),
            5 => (b'3', "", b""),
            _ => (b'0', "", b"text"),
        };
        member(&mut layer, kind, name.as_bytes(), link.as_bytes(), payload);
    }
    layer.resize(layer.len() + 1024, 0);
    layer
}

fn unpack(layer: &[u8], dir: &Dir, whiteouts: Whiteouts) {
    let mut recipe = tar_split::Writer::new(Vec::new());
    let options = unpack::Options::new(whiteouts);
    let Ok(summary) = unpack::unpack(layer, dir, &options, Some(&mut recipe)) else {
        return;
    };
    let recipe = recipe.finish().expect("memory takes everything");
    let root = &place().root;
    let is_link =
        |name: &str| fs::symlink_metadata(root.join(name)).is_ok_and(|found| found.is_symlink());
    plant::bug(
        whiteouts == Whiteouts::Apply && is_link("a") && is_link("b") && summary.entries > 4,
    );
    let mut out = Vec::new();
    let mut open = |name: &[u8]| -> std::io::Result<strata::sys::File> {
        let name = String::from_utf8_lossy(name);
        let clean: Vec<_> = name
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".."))
            .collect();
        Ok(dir.open_file(clean.join("/"))?)
    };
    // A file that a later member took away can't come out; what does come out is what went in.
    if tar_split::reassemble(recipe.as_slice(), &mut open, &mut out).is_ok() {
        assert!(out == layer, "the layer does not come out as it went in");
    }
}

/// Everything about a folder that a layer could change.
fn state(folder: &Path) -> BTreeSet<(PathBuf, u32, u32, u64, Vec<u8>)> {
    let about = |path: &Path| {
        let data = fs::symlink_metadata(path).expect("it can be looked at");
        let text = fs::read(path).unwrap_or_default();
        (
            path.to_owned(),
            data.permissions().mode(),
            data.uid(),
            data.nlink(),
            text,
        )
    };
    let mut state: BTreeSet<_> = fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| about(&entry.expect("an entry").path()))
        .collect();
    state.insert(about(folder));
    state
}
