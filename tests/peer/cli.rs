//! The command line beside the newest `containers-storage`: the same commands in twin stores give the
//! same output, errors and exit codes, once IDs, times and places are made equal.

use std::collections::HashMap;
use std::path::Path;

use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// One of the twins.
struct Twin {
    program: std::path::PathBuf,
    scratch: Scratch,
    driver: &'static str,
    /// IDs that were drawn, by the order of their appearance.
    ids: HashMap<String, String>,
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The same with the lines, or the elements of a JSON list, in order.
    fn sorted(self) -> Self {
        let list = self
            .out
            .strip_prefix("[{")
            .and_then(|rest| rest.strip_suffix("}]"));
        let mut parts: Vec<&str> = match list {
            Some(list) => list.split("},{").collect(),
            None => self.out.lines().collect(),
        };
        parts.sort_unstable();
        Self {
            out: parts.join("\n"),
            ..self
        }
    }
}

impl Twin {
    fn new(program: &Path, driver: &'static str) -> Self {
        let scratch = Scratch::new("twin");
        let twin = Self {
            program: program.to_owned(),
            scratch,
            driver,
            ids: HashMap::new(),
        };
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(twin.scratch.path().join(name), bytes).unwrap();
        };
        let layer = Layer::new()
            .dir("./")
            .dir("d")
            .file("d/one", "one\n")
            .file("two", "a second file\n")
            .symlink("link", "two");
        write("layer.tar", &layer.tar());
        write(
            "over.tar",
            &Layer::new()
                .file("two", "changed\n")
                .whiteout("d/one")
                .tar(),
        );
        write("item", b"an item <with> & such\n");
        write("text", b"metadata of a file\n");
        write("junk", b"junk");
        twin
    }

    fn run(&mut self, line: &[&str]) -> Said {
        let root = self.scratch.path().to_str().unwrap().to_owned();
        let arguments = line
            .iter()
            .map(|argument| argument.replace("@/", &format!("{root}/")));
        let ran = Tool::at(&self.program)
            .args([
                "--graph",
                &self.scratch.text("g"),
                "--run",
                &self.scratch.text("r"),
            ])
            .args(["--storage-driver", self.driver])
            .args(arguments)
            .output();
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        Said {
            code: ran.code,
            out: self.normal(&out),
            err: self.normal(&ran.stderr),
        }
    }

    /// The text without what must differ.
    fn normal(&mut self, text: &str) -> String {
        let root = self.scratch.path().to_str().unwrap();
        let program = self.program.to_str().unwrap();
        let text = text.replace(root, "@").replace(program, "strata");
        let mut normal = String::new();
        let mut word = String::new();
        for letter in text.chars().chain(['\0']) {
            if letter.is_ascii_alphanumeric() {
                word.push(letter);
                continue;
            }
            if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                // What follows a colon is a digest: those must be equal as they are.
                if !normal.ends_with("sha256:") {
                    let next = format!("<id {}>", self.ids.len());
                    word = self.ids.entry(word).or_insert(next).clone();
                }
            }
            normal.push_str(&word);
            word.clear();
            normal.push(letter);
        }
        normal.pop();
        // Log lines of the peer are not part of its answer.
        let lines = normal.lines().filter(|line| !line.starts_with("time="));
        let normal: Vec<String> = lines.map(without_times).collect();
        normal.join("\n")
    }
}

/// A line whose creation times are all the same.
fn without_times(line: &str) -> String {
    let mut parts = line.split("\"created\":\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("\"created\":\"<time>");
        text.push_str(&part[part.find('"').unwrap_or(0)..]);
    }
    text
}

/// A script, in the order of its running. `@/` is the twin's own folder.
const SCRIPT: &[&[&str]] = &[
    // An empty store.
    &["layers"],
    &["images"],
    &["containers"],
    &["layers", "-j"],
    &["images", "-j"],
    &["containers", "-j"],
    &["layers", "-t"],
    // Creation.
    &["create-layer", "-i", "l1", "-n", "base", "-n=\"quoted\""],
    &["createlayer", "-i", "l2", "base"],
    &["create-layer", "-j", "--id=l3", "-l", "label", "l2"],
    &["create-layer", "-i", "l1"],
    &["create-layer", "nosuch"],
    &["import-layer", "-f", "@/layer.tar", "-i", "l4", "-j"],
    &[
        "import-layer",
        "-f",
        "@/over.tar",
        "-i",
        "l5",
        "-n",
        "top",
        "l4",
    ],
    &["import-layer", "-f", "@/nosuch"],
    &[
        "create-image",
        "-i",
        "i1",
        "-n",
        "img",
        "-n",
        "img2",
        "-m",
        "me<ta>&",
        "l5",
    ],
    &["create-image", "-j", "-i", "i2", "-f", "@/text", "l2"],
    &["create-image", "-i", "i3", "nosuch"],
    &["create-image", "-i", "i4"],
    // No ID here is the beginning of a random one: a key finds layers by their prefix first.
    &["create-container", "-i", "k1", "-n", "cont", "img"],
    &["create-container", "-i", "k2", ""],
    &[
        "create-container",
        "-j",
        "-i",
        "k3",
        "--volatile",
        "-m",
        "mm",
        "i1",
    ],
    &["create-container", "nosuch"],
    // Looking.
    &["layers"],
    &["layers", "-t"],
    &["layers", "-q"],
    &["layers", "-j"],
    &["images"],
    &["images", "-q"],
    &["images", "-j"],
    &["containers"],
    &["containers", "-j"],
    &["layer", "l1", "nosuch", "l5"],
    &["layer", "-j", "l1", "nosuch"],
    &["layer", "-j", "nosuch"],
    &["image", "img", "i2", "nosuch"],
    &["image", "-j", "img"],
    &["container", "cont", "k2"],
    &["container", "-j", "cont", "nosuch"],
    &["exists", "i1"],
    &["exists", "nosuch"],
    &["exists", "-q", "i1", "nosuch"],
    &["exists", "-j", "l1", "k1", "nosuch"],
    &["exists", "-l", "i1"],
    &["exists", "-c", "cont"],
    // Data items.
    &["set-image-data", "-f", "@/item", "img", "manifest"],
    &["set-image-data", "-f", "@/item", "img", "Some Key"],
    &["set-container-data", "-f", "@/item", "cont", "k"],
    &["set-layer-data", "-f", "@/item", "base", "k"],
    &["set-image-data", "-f", "@/item", "nosuch", "k"],
    &["list-image-data", "img"],
    &["list-image-data", "-j", "img"],
    &["list-layer-data", "-j", "l2"],
    &["list-container-data", "cont"],
    &["list-image-data", "nosuch"],
    &["list-container-data", "nosuch"],
    &["get-image-data", "img", "manifest"],
    &["get-layer-data", "base", "k"],
    &["get-container-data", "cont", "k"],
    &["get-image-data", "nosuch", "k"],
    &["get-image-data-size", "img", "manifest"],
    &["get-image-data-size", "img", "nosuch"],
    &["get-image-data-digest", "img", "manifest"],
    &["get-image-data-digest", "img", "nosuch"],
    &["get-container-data-size", "cont", "k"],
    &["get-container-data-digest", "cont", "k"],
    &["images"],
    &["images", "-j"],
    &["containers"],
    &["image", "img"],
    &["container", "cont"],
    &[
        "images-by-digest",
        "-q",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ],
    &[
        "images-by-digest",
        "-j",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ],
    &[
        "images-by-digest",
        "sha256:ccb58fbcc2d1a6ba6aab8c6ca8e3d48aff22dbdf0ce4bb1b1ce7a7e3d5e2ffcd",
    ],
    // Keys: prefixes, also ambiguous ones.
    &["layer", "-j", "l"],
    &["layer", "bas"],
    &["image", "-j", "i1"],
    &["exists", "con"],
    &["exists", "-i", "-l", "i1"],
    &["exists", "-ic", "i1", "cont"],
    &["get-names", "base"],
    &["get-layer-data", "l", "k"],
    // Directories.
    &["get-container-dir", "cont"],
    &["get-container-run-dir", "cont"],
    &["get-image-dir", "i1"],
    &["get-image-run-dir", "i1"],
    &["get-container-dir", "nosuch"],
    // Names and metadata.
    &["get-names", "cont"],
    &["get-names", "-j", "l2"],
    &["get-names", "nosuch"],
    &["add-names", "-n", "x", "-n", "y", "cont"],
    &["add-names", "-j", "-n", "z", "cont", "extra"],
    &["set-names", "-j", "-n", "q", "-n", "q", "cont"],
    &["remove-names", "-j", "-n", "q", "k1"],
    &["set-names", "-n", "img2", "i2"],
    &["get-names", "img"],
    &["get-names", "i2"],
    &["images", "-j"],
    &["add-names", "-n", "x", "nosuch"],
    &["metadata", "i1", "nosuch", "k3"],
    &["metadata", "-q", "i2"],
    &["metadata", "-j", "i1", "x"],
    &["set-metadata", "i1"],
    &["set-metadata", "-m", "new", "i1"],
    &["metadata", "i1"],
    &["set-metadata", "-f", "@/text", "i1"],
    &["metadata", "i1"],
    &["set-metadata", "-m", "x", "nosuch"],
    // Mounts.
    &["mounted", "k1", "nosuch"],
    &["mount", "k1", "nosuch"],
    &["mount", "-j", "k1"],
    &["mounted", "k1"],
    &["mounted", "-j", "k1", "l1", "nosuch"],
    &["layers", "-t"],
    &["unmount", "k1"],
    &["umount", "k1", "nosuch"],
    &["unmount", "-j", "k1"],
    &["mount", "-r", "i1", "nosuch"],
    &["unmount", "i1"],
    &["mount", "i1"],
    &["mount", "k2"],
    &["mount", "k2"],
    &["shutdown"],
    &["shutdown", "-j"],
    &["unmount", "-f", "k2"],
    &["mounted", "k2"],
    // Differences.
    &["changes", "l4"],
    &["changes", "-j", "l5"],
    &["changes", "l1"],
    &["changes", "-j", "l1"],
    &["changes", "nosuch"],
    &["changes", "l5", "l4"],
    &["diffsize", "l4"],
    &["diff-size", "l5"],
    &["diffsize", "nosuch"],
    &["diff", "-u", "l4"],
    &["diff", "l5"],
    &["diff", "nosuch"],
    &["diff", "-b", "l4"],
    &["diff", "-x", "l4"],
    &["applydiff", "-f", "@/layer.tar", "l2"],
    &["changes", "l2"],
    &["layer", "-j", "l2"],
    &["apply-diff", "-f", "@/layer.tar", "nosuch"],
    &["apply-diff", "-f", "@/nosuch", "l2"],
    // Deletion.
    &["delete-layer", "l1"],
    &["delete-layer", "-j", "l1", "nosuch"],
    &["delete-layer", "l5"],
    &["delete-image", "img"],
    &["delete-image", "-j", "img"],
    &["delete-image", "nosuch"],
    &["delete-container", "nosuch"],
    &["delete-container", "-j", "k3", "nosuch"],
    &["delete-container", "k1"],
    &["delete-image", "-tj", "img"],
    &["delete-image", "-t", "img"],
    &["delete-image", "img"],
    &["delete", "l3"],
    &["delete", "nosuch"],
    &["delete", "-j", "i2"],
    &["layers"],
    &["images"],
    &["containers"],
    // The whole.
    &["gc"],
    &["gc", "-j"],
    &["shutdown"],
    &["wipe"],
    &["wipe", "-j"],
    &["layers", "-j"],
    &["images-by-digest", "nonsense"],
    // An empty name, a name twice, names of other kinds.
    &["create-layer", "-i", "n1", "-n", "same"],
    &["create-image", "-i", "n2", "-n", "same", "n1"],
    &["create-container", "-i", "n3", "-n", "same", "n2"],
    &["get-names", "same"],
    &["add-names", "-j", "-n", "more", "same"],
    &["delete", "same"],
    &["exists", "same", "n1", "n2", "n3"],
    &["metadata", "-j", "n1", "n2", "n3"],
    &["set-names", "-j", "n2"],
    &["remove-names", "-n", "nosuch", "n2"],
    &["shutdown", "-f"],
    &["shutdown", "-fj"],
    &["status"],
    &["status", "-j"],
    &["storage-layers", "-j"],
    &[
        "create-storage-layer",
        "-i",
        "s1",
        "--uidmap",
        "0:1000:10",
        "--gidmap=0:2000:10",
    ],
    &["create-storage-layer", "-j", "-r", "-i", "s2", "s1"],
    &[
        "create-storage-layer",
        "--hostuidmap",
        "-i",
        "s3",
        "-l",
        "label",
    ],
    &["create-storage-layer", "--uidmap", "0:1000"],
    &["storage-layers"],
    // Equal files, on a file system that may not share blocks.
    &["import-layer", "-f", "@/layer.tar", "-i", "d1"],
    &["import-layer", "-f", "@/layer.tar", "-i", "d2"],
    &["create-image", "-i", "d3", "d1"],
    &["create-image", "-i", "d4", "d2"],
    &["dedup"],
    &["dedup", "-j"],
    &["dedup", "--hash-method", "size"],
    &["dedup", "--hash-method=sha256"],
    &["dedup", "--hash-method", "md5"],
    &["create-layer", "-i", "d5"],
    &["copy", "-j", "@/text", "d5:/copied"],
    &["changes", "d5"],
    &["applydiff-using-staging-dir", "d1", "@/nosuch"],
    &["layer-parent-owners", "n1", "nosuch"],
    &["layer-parent-owners", "-j", "n1"],
    &["container-parent-owners", "n3"],
    // Mistakes.
    &["layers", "--bogus"],
    &["layers", "-xj"],
    &["layers", "-g"],
    &["frob"],
    &["diff", "--file"],
    &["create-layer", "--readonly=maybe"],
];

/// Commands whose texts differ on purpose: ours say more, or what is true.
fn differs_on_purpose(line: &[&str]) -> bool {
    matches!(
        line,
        // Ours name what is wrong.
        ["images-by-digest", "nonsense"]
        // We do not shift owners.
        | ["status", ..]
        // What can't be opened is named with another verb.
        | ["applydiff-using-staging-dir", _, _]
        // Of several users one is named: another one.
        | ["delete-image", "img" | "-j", ..]
    )
}

fn compare(driver: &'static str) {
    tool::require_root();
    let mut ours = Twin::new(Path::new(env!("CARGO_BIN_EXE_strata")), driver);
    let mut theirs = Twin::new(&tool::find("containers-storage-newest"), driver);
    let mut different = Vec::new();
    for line in SCRIPT {
        let (our, their) = (ours.run(line), theirs.run(line));
        // The order of these is chance with the peer.
        let (our, their) = match line.first() {
            Some(&"changes" | &"exists") => (our.sorted(), their.sorted()),
            _ => (our, their),
        };
        let is_same = if differs_on_purpose(line) {
            our.code == their.code
        } else {
            our == their
        };
        if !is_same {
            different.push(format!("{line:?}\n  ours:   {our:?}\n  theirs: {their:?}"));
        }
    }
    let count = different.len();
    assert!(
        count == 0,
        "{count} of {} differ:\n{}",
        SCRIPT.len(),
        different.join("\n")
    );
}

#[test]
fn every_command_says_what_the_peer_says_with_vfs() {
    compare("vfs");
}

#[test]
fn every_command_says_what_the_peer_says_with_overlay() {
    compare("overlay");
}
