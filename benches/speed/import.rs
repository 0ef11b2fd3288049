//! A large OCI layout of four gzip layers into an empty store, against Debian's skopeo.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::memory;
use super::numbers::{Promise, Samples, Table};
use super::support::image::{self, Layer};
use super::support::scratch::Scratch;
use super::support::tool;
use super::{Extent, binary};

/// Between two looks at the memory of a program that is timed.
const PAUSE: Duration = Duration::from_millis(3);

pub fn measure(extent: Extent, table: &mut Table) {
    let scratch = Scratch::new("bench");
    let layout = scratch.path().join("layout");
    let size = write_layout(&layout, extent.megabytes);
    let mut samples = [(); 4].map(|()| Samples::default());
    let mut peak = [0.0_f64; 2];
    // The first pair is compared and not timed.
    for n in 0..=extent.imports {
        if n == 1 {
            samples = [(); 4].map(|()| Samples::default());
        }
        let (ours, theirs) = (scratch.dir("ours"), scratch.dir("theirs"));
        let [our_time, our_synced, their_time, their_synced] = &mut samples;
        let [our_peak, their_peak] = &mut peak;
        let mut import_ours = || {
            let mut command = Command::new(binary());
            command
                .arg("--graph")
                .arg(ours.join("graph"))
                .arg("--run")
                .arg(ours.join("run"))
                .args(["--storage-driver", "overlay", "pull", "--quiet"])
                .arg(format!("oci:{}:one", layout.display()));
            let used = our_synced.time(|| {
                let used = our_time.time(|| memory::peak(&mut command, PAUSE));
                sync(&ours);
                used
            });
            *our_peak = our_peak.max(used);
        };
        let mut import_theirs = || {
            let mut command = Command::new(tool::find("skopeo"));
            command
                .args(["copy", "--quiet"])
                .arg(format!("oci:{}:one", layout.display()))
                .arg(format!(
                    "containers-storage:[overlay@{}+{}]localhost/bench/import:one",
                    theirs.join("graph").display(),
                    theirs.join("run").display()
                ));
            let used = their_synced.time(|| {
                let used = their_time.time(|| memory::peak(&mut command, PAUSE));
                sync(&theirs);
                used
            });
            *their_peak = their_peak.max(used);
        };
        sync(scratch.path());
        if n % 2 == 0 {
            import_ours();
            import_theirs();
        } else {
            import_theirs();
            import_ours();
        }
        if n == 0 {
            assert_eq!(
                trees(&ours.join("graph")),
                trees(&theirs.join("graph")),
                "both unpacked the same"
            );
        }
        for folder in [&ours, &theirs] {
            super::support::scratch::unmount_below(folder);
            fs::remove_dir_all(folder).unwrap();
        }
    }
    let [our_time, our_synced, their_time, their_synced] = &samples;
    let what = format!("import of a layout of {size} MB");
    table.add(
        format!("{what}, each as durable as it is"),
        "ms",
        our_time.median(),
        Some(("skopeo 1.9", their_time.median())),
        Promise::Faster(2.0),
    );
    table.add(
        format!("{what}, both synced"),
        "ms",
        our_synced.median(),
        Some(("skopeo 1.9", their_synced.median())),
        Promise::Nothing,
    );
    table.add(
        "peak memory of the import",
        "MiB",
        peak[0],
        Some(("skopeo 1.9", peak[1])),
        Promise::Below(128.0),
    );
}

/// Files from 1 kB to 4 MB, words with something random between them.
/// Returns the size of the compressed layers in MB.
fn write_layout(layout: &Path, megabytes: usize) -> usize {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let words: Vec<Vec<u8>> = (0..4096)
        .map(|_| {
            let length = 3 + next() as usize % 9;
            (0..length).map(|_| b'!' + (next() % 90) as u8).collect()
        })
        .collect();
    let mut layers = Vec::new();
    for number in 0..4 {
        // Every directory has an entry: what is implied only has the time of its unpacking.
        let mut layer = Layer::new().dir(&format!("layer{number}"));
        // Four random bytes to some twenty of words: gzip gets to about three quarters.
        let wanted = megabytes * 1_000_000 / 4 * 100 / 72;
        let mut made = 0;
        let mut file = 0;
        while made < wanted {
            let size = 1024_usize << (next() % 13);
            let mut content = Vec::with_capacity(size + 64);
            while content.len() < size {
                for _ in 0..3 {
                    content.extend_from_slice(&words[next() as usize % words.len()]);
                    content.push(b' ');
                }
                content.extend_from_slice(&next().to_le_bytes()[..4]);
            }
            made += content.len();
            if file % 50 == 0 {
                layer = layer.dir(&format!("layer{number}/folder{}", file / 50));
            }
            layer = layer.file(
                &format!("layer{number}/folder{}/file{file}", file / 50),
                content,
            );
            file += 1;
        }
        layers.push(layer);
    }
    let built = image::write_layout(layout, "one", &layers);
    let bytes: u64 = built
        .layer_digests
        .iter()
        .map(|digest| {
            fs::metadata(layout.join("blobs").join(digest.replace(':', "/")))
                .unwrap()
                .len()
        })
        .sum();
    (bytes / 1_000_000) as usize
}

fn sync(folder: &Path) {
    let folder = fs::File::open(folder).unwrap();
    rustix::fs::syncfs(&folder).unwrap();
}

/// For each layer, by its diff digest, a digest of every path, kind, mode, size and content.
fn trees(graph: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(graph.join("overlay-layers/layers.json")).unwrap();
    let layers: serde_json::Value = serde_json::from_str(&text).unwrap();
    layers
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            let root = graph
                .join("overlay")
                .join(layer["id"].as_str().unwrap())
                .join("diff");
            (
                layer["diff-digest"].as_str().unwrap().to_owned(),
                tree(&root),
            )
        })
        .collect()
}

fn tree(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let mode = data.permissions().mode();
            if data.is_dir() {
                folders.push(path);
                lines.push(format!("{name} {mode:o} {} {}", data.uid(), data.mtime()));
            } else {
                let content = if data.is_file() {
                    image::digest(&fs::read(&path).unwrap())
                } else {
                    fs::read_link(&path).unwrap().display().to_string()
                };
                lines.push(format!(
                    "{name} {mode:o} {} {} {content}",
                    data.uid(),
                    data.mtime()
                ));
            }
        }
    }
    lines.sort();
    image::digest(lines.join("\n").as_bytes())
}
