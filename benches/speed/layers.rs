//! One layer into an empty store, and back: of many small files, and of one large file.
//!
//! Against the newest peer, and against `tar -xzf`, which neither hashes nor remembers anything. What Strata imports
//! is on the disk when it answers, so the others' time ends with a sync.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::numbers::{Promise, Samples, Table};
use super::support::image;
use super::support::scratch::{Scratch, unmount_below};
use super::support::tool::Tool;
use super::{Extent, binary};

pub fn measure(extent: Extent, table: &mut Table) {
    let scratch = Scratch::new("bench");
    let files = extent.megabytes * 200;
    let small = Archive::make(&scratch, "small", |root| write_small(root, files));
    small.measure(&format!("a layer of {files} small files"), extent, table);
    let megabytes = extent.megabytes * 2;
    let large = Archive::make(&scratch, "large", |root| write_large(root, megabytes));
    large.measure(
        &format!("a layer of one file of {megabytes} MB"),
        extent,
        table,
    );
}

/// A layer's archive, and a place for what it becomes.
struct Archive<'a> {
    scratch: &'a Scratch,
    name: &'static str,
    packed: PathBuf,
    diff_id: String,
}

/// Who takes a layer in.
#[derive(Clone, Copy, Debug)]
enum Who {
    Strata,
    Peer,
    Tar,
}

const ALL: [Who; 3] = [Who::Strata, Who::Peer, Who::Tar];

impl<'a> Archive<'a> {
    fn make(scratch: &'a Scratch, name: &'static str, fill: impl FnOnce(&Path)) -> Self {
        let root = scratch.dir(&format!("{name}/source"));
        fill(&root);
        let packed = scratch.path().join(format!("{name}.tgz"));
        let plain = scratch.path().join(format!("{name}.tar"));
        Tool::new("tar")
            .arg("-cf")
            .arg(&plain)
            .arg("-C")
            .arg(&root)
            .arg(".")
            .ok();
        let diff_id = image::digest(&fs::read(&plain).unwrap());
        Tool::new("sh")
            .args(["-ec", "gzip -4 < \"$0\" > \"$1\"; rm \"$0\""])
            .arg(&plain)
            .arg(&packed)
            .ok();
        Self {
            scratch,
            name,
            packed,
            diff_id,
        }
    }

    /// A folder of this round. It stays to the end: for some minutes ext4 goes one by one through the inodes of files
    /// that were deleted before it takes one for a new file, which is then several times as slow.
    fn folder(&self, who: Who, round: usize) -> PathBuf {
        self.scratch.dir(&format!("{}/{round}/{who:?}", self.name))
    }

    fn tool(&self, who: Who, round: usize, arguments: &[&str]) -> Tool {
        let tool = match who {
            Who::Strata => Tool::at(&binary()),
            Who::Peer => Tool::new("containers-storage-newest"),
            Who::Tar => return Tool::new("tar").args(arguments),
        };
        let folder = self.folder(who, round);
        tool.arg("--graph")
            .arg(folder.join("graph"))
            .arg("--run")
            .arg(folder.join("run"))
            .args(["--storage-driver", "overlay"])
            .args(arguments)
    }

    /// Takes the layer in; its ID, where it gets one.
    fn apply(&self, who: Who, round: usize) -> String {
        let packed = self.packed.to_str().unwrap();
        if let Who::Tar = who {
            let tree = self.folder(who, round);
            self.tool(who, round, &["-xzf", packed, "-C"])
                .arg(&tree)
                .ok();
            return String::new();
        }
        self.tool(who, round, &["import-layer", "-f", packed])
            .ok()
            .last_line()
    }

    fn diff(&self, who: Who, round: usize, layer: &str, to: &str) {
        self.tool(who, round, &["diff", "-u", "-f", to, layer]).ok();
    }

    fn measure(&self, what: &str, extent: Extent, table: &mut Table) {
        let mut applied = [(); 3].map(|()| Samples::default());
        let mut diffed = [(); 2].map(|()| Samples::default());
        for n in 0..=extent.imports {
            let mut layers = [const { String::new() }; 3];
            for turn in 0..3 {
                let number = (n + turn) % 3;
                sync(self.scratch.path());
                let mut unused = Samples::default();
                // The first round is compared and not timed.
                let samples = if n == 0 {
                    &mut unused
                } else {
                    &mut applied[number]
                };
                layers[number] = samples.time(|| {
                    let layer = self.apply(ALL[number], n);
                    if !matches!(ALL[number], Who::Strata) {
                        sync(self.scratch.path());
                    }
                    layer
                });
            }
            for turn in 0..2 {
                let number = (n + turn) % 2;
                if n == 0 {
                    let out = self.scratch.text("diff.tar");
                    self.diff(ALL[number], n, &layers[number], &out);
                    let found = image::digest(&fs::read(&out).unwrap());
                    assert_eq!(found, self.diff_id, "the layer comes back as it was");
                    fs::remove_file(&out).unwrap();
                    continue;
                }
                diffed[number].time(|| self.diff(ALL[number], n, &layers[number], "/dev/null"));
            }
            unmount_below(self.scratch.path());
        }
        let [ours, theirs, tar] = applied.map(|samples| samples.median());
        table.add(
            format!("apply {what}, all synced"),
            "ms",
            ours,
            Some(("containers-storage 1.65", theirs)),
            Promise::Faster(2.0),
        );
        table.add(
            format!("apply {what}, all synced"),
            "ms",
            ours,
            Some(("tar -xzf", tar)),
            Promise::AtMost(1.2),
        );
        let [ours, theirs] = diffed.map(|samples| samples.median());
        table.add(
            format!("diff of {what} to its tar"),
            "ms",
            ours,
            Some(("containers-storage 1.65", theirs)),
            Promise::Faster(2.0),
        );
    }
}

fn sync(folder: &Path) {
    let folder = fs::File::open(folder).unwrap();
    rustix::fs::syncfs(&folder).unwrap();
}

/// Numbers that look random and are the same each time.
fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A hundred files in each folder, of none to 9 kB.
fn write_small(root: &Path, files: usize) {
    let words = b"the quick brown fox jumps over the lazy dog 0123456789\n".repeat(200);
    let mut next = numbers();
    for number in 0..files {
        let folder = root.join(format!("{}/{}", number / 5000, number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let size = [0, 100, 700, 1500, 4000, 9000][next() as usize % 6];
        fs::write(folder.join(format!("file{number}")), &words[..size]).unwrap();
    }
}

/// A file of which gzip leaves some two fifths, as of programs.
fn write_large(root: &Path, megabytes: usize) {
    let words: Vec<[u8; 6]> = {
        let mut next = numbers();
        let word = |()| next().to_le_bytes()[..6].try_into().unwrap();
        [(); 4096].map(word).to_vec()
    };
    let mut next = numbers();
    let mut out = std::io::BufWriter::new(fs::File::create(root.join("file")).unwrap());
    let mut written = 0;
    while written < megabytes * 1_000_000 {
        out.write_all(&words[next() as usize % words.len()])
            .unwrap();
        written += 6;
    }
    out.flush().unwrap();
}
