//! Archives, recipes, trees and differences: ours against those of Go's containers/storage.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use strata::archive::changes::{self, Tree};
use strata::archive::pack::{self, pack};
use strata::archive::unpack::{Options, unpack};
use strata::archive::{Whiteouts, tar_split};
use strata::sys::Dir;

use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

const OVERLAY: Whiteouts = Whiteouts::Overlay {
    user_attributes: false,
};

/// Which of [`archives`] begins with a global header.
const GLOBAL: usize = 2;

/// A store of the peer's.
struct Peer {
    scratch: Scratch,
    driver: &'static str,
}

impl Peer {
    fn new(driver: &'static str) -> Self {
        tool::require_root();
        Self {
            scratch: Scratch::new("peer"),
            driver,
        }
    }

    fn tool(&self) -> Tool {
        Tool::new("containers-storage-newest")
            .args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", self.driver])
    }

    /// Imports an archive as a layer, giving its ID.
    fn import(&self, archive: &[u8], parent: &str) -> Result<String, String> {
        let file = self.scratch.path().join("import.tar");
        fs::write(&file, archive).unwrap();
        let mut tool = self.tool().arg("import-layer").arg("-f").arg(&file);
        if !parent.is_empty() {
            tool = tool.arg(parent);
        }
        let ran = tool.output();
        if ran.code == 0 {
            Ok(ran.last_line())
        } else {
            Err(ran.stderr)
        }
    }

    fn recipe(&self, layer: &str) -> PathBuf {
        let folder = format!("graph/{}-layers/{layer}.tar-split.gz", self.driver);
        self.scratch.path().join(folder)
    }

    fn tree(&self, layer: &str) -> PathBuf {
        let tree = match self.driver {
            "vfs" => format!("graph/vfs/dir/{layer}"),
            _ => format!("graph/overlay/{layer}/diff"),
        };
        self.scratch.path().join(tree)
    }

    fn diff(&self, layer: &str) -> Vec<u8> {
        let file = self.scratch.path().join("diff.tar");
        self.tool()
            .args(["diff", "-u", "-f"])
            .arg(&file)
            .arg(layer)
            .ok();
        fs::read(&file).unwrap()
    }
}

/// Unpacks with Strata, giving the recipe.
fn unpacked(archive: &[u8], at: &Path, whiteouts: Whiteouts) -> Vec<u8> {
    let dir = Dir::open_or_create(at, 0o555).unwrap();
    let mut recipe = tar_split::Writer::new(Vec::new());
    unpack(archive, &dir, &Options::new(whiteouts), Some(&mut recipe)).unwrap();
    recipe.finish().unwrap()
}

/// The lines of a recipe, without positions, segments in a row made one: where Go cuts the bytes after the end marker
/// depends on the sizes of its reads.
fn lines(recipe: &[u8]) -> Vec<String> {
    let mut text = String::new();
    let mut decoder = strata::archive::compression::decoder(recipe).unwrap().1;
    decoder.read_to_string(&mut text).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let position = format!(",\"position\":{number}}}");
        let line = line.strip_suffix(&position).unwrap();
        match lines.last_mut() {
            Some(last) if is_segment(last) && is_segment(line) => {
                *last = segment(&[payload(last), payload(line)].concat());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn is_segment(line: &str) -> bool {
    line.starts_with("{\"type\":2,\"payload\":\"")
}

fn payload(line: &str) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_str(&format!("{line}}}")).unwrap();
    BASE64.decode(json["payload"].as_str().unwrap()).unwrap()
}

fn segment(bytes: &[u8]) -> String {
    format!("{{\"type\":2,\"payload\":\"{}\"", BASE64.encode(bytes))
}

/// Everything about a tree but the times that nobody set.
fn listing(tree: &Path) -> String {
    let find = "find . -printf '%p %y %m %U:%G %s %n %l %Ts\\n' | sort; \
                find . -type c -exec stat -c '%n %t:%T' {} +";
    Tool::new("sh")
        .args(["-c", &format!("cd '{}' && {find}", tree.display())])
        .ok()
        .text()
}

/// Archives of GNU tar in the formats that it writes, but for sparse files.
fn archives(scratch: &Scratch) -> Vec<Vec<u8>> {
    let tree = scratch.dir("tree");
    let script = "mkdir -p d/$(seq -s / 100 | cut -c1-180) 'odd<&>\"'; echo hello > d/f; ln d/f hard; \
         ln -s /etc/passwd d/l; ln -s $(printf '%0150d' 1) d/long; mkfifo fifo; mknod null c 1 3; \
         mknod disk b 8 1; chmod 6755 d/f; chown 3000000:4000000 d/f; : > empty; \
         printf x > \"$(printf 'd/\\377')\"; printf y > 'd/ü'; chmod 1777 'odd<&>\"'; \
         head -c 300000 /dev/urandom > big; find . -exec touch -hd @1600000000.123456789 {} +";
    Tool::new("sh")
        .args(["-ec", &format!("cd '{}'; {script}", tree.display())])
        .ok();
    [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=pax", "--pax-option=comment=x"],
        &["--format=gnu", "-b", "100"],
        &["--format=gnu", "--transform=s,^\\./,,"],
    ]
    .iter()
    .map(|options| {
        Tool::new("tar")
            .args(*options)
            .args(["--sort=name", "-C", tree.to_str().unwrap(), "-c", "."])
            .ok()
            .stdout
    })
    .collect()
}

#[test]
fn recipes_and_trees_equal_those_of_go() {
    for (driver, whiteouts) in [("vfs", Whiteouts::Apply), ("overlay", OVERLAY)] {
        let peer = Peer::new(driver);
        for (index, archive) in archives(&peer.scratch).iter().enumerate() {
            let layer = peer.import(archive, "").unwrap();
            let own = peer.scratch.path().join(format!("own-{index}"));
            let recipe = unpacked(archive, &own, whiteouts);
            let theirs = fs::read(peer.recipe(&layer)).unwrap();
            assert!(
                lines(&recipe) == lines(&theirs),
                "recipe {index} of {driver}"
            );
            if index == GLOBAL {
                // Go makes the parent directory of the name that GNU tar gives the header.
                continue;
            }
            if driver == "vfs" {
                // Go leaves the time of the root alone there.
                let time = "touch -d @1 .";
                for tree in [&own, &peer.tree(&layer)] {
                    Tool::new("sh")
                        .args(["-ec", &format!("cd '{}'; {time}", tree.display())])
                        .ok();
                }
            }
            let (own, theirs) = (listing(&own), listing(&peer.tree(&layer)));
            assert_eq!(own, theirs, "tree {index} of {driver}");
        }
    }
}

#[test]
fn go_rebuilds_sparse_archives_from_our_recipes() {
    let peer = Peer::new("vfs");
    let tree = peer.scratch.dir("sparse");
    let file = fs::File::create(tree.join("file")).unwrap();
    for index in 0..50 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", index * 70_000).unwrap();
    }
    for version in ["0.0", "0.1", "1.0"] {
        let archive = Tool::new("tar")
            .args(["--format=pax", "-S", "--sparse-version", version])
            .args(["-C", tree.to_str().unwrap(), "-c", "file"])
            .ok()
            .stdout;
        let layer = peer.import(&archive, "").unwrap();
        let own = peer.scratch.path().join(format!("own-{version}"));
        let recipe = unpacked(&archive, &own, Whiteouts::Apply);
        assert_eq!(
            fs::read(own.join("file")).unwrap(),
            fs::read(tree.join("file")).unwrap()
        );
        fs::write(peer.recipe(&layer), recipe).unwrap();
        assert!(peer.diff(&layer) == archive, "version {version}");
    }
}

#[test]
fn we_rebuild_archives_from_recipes_of_go() {
    let peer = Peer::new("overlay");
    for archive in archives(&peer.scratch) {
        let layer = peer.import(&archive, "").unwrap();
        let tree = Dir::open(peer.tree(&layer)).unwrap();
        let recipe = fs::File::open(peer.recipe(&layer)).unwrap();
        let mut out = Vec::new();
        let mut open = |name: &[u8]| -> io::Result<strata::sys::File> {
            Ok(tree.open_file_in_root(std::ffi::OsStr::from_bytes(name))?)
        };
        tar_split::reassemble(recipe, &mut open, &mut out).unwrap();
        assert!(out == archive);
    }
}

#[test]
fn packed_layers_equal_those_of_go() {
    let peer = Peer::new("overlay");
    let archive = &archives(&peer.scratch)[4];
    let parent = peer.import(archive, "").unwrap();
    let layer = peer.tool().args(["create-layer", &parent]).ok().last_line();
    let mounted = peer.tool().args(["mount", &layer]).ok().last_line();
    let script = "rm hard null; rm -r d; mkdir d; echo new > d/f; echo more >> big; mkdir -p a/b; ln big a/hard; \
         : > zero; ln -s x a/l; chmod 700 .; find . -xdev -newermt @1700000000 -exec touch -hd @1700000000 {} +; \
         touch a";
    Tool::new("sh")
        .args(["-ec", &format!("cd '{mounted}'; {script}")])
        .ok();
    let merged = Dir::open(&mounted).unwrap();
    merged.set_attribute("a", b"user.x", b"1").unwrap();
    drop(merged);
    peer.tool().args(["unmount", &layer]).ok();

    let diff = Dir::open(peer.tree(&layer)).unwrap();
    let lowers = [Dir::open(peer.tree(&parent)).unwrap()];
    let options = pack::Options {
        overlay: Some(&lowers),
        ..pack::Options::default()
    };
    let own = pack(&diff, Vec::new(), &options).unwrap();
    let theirs = peer.diff(&layer);
    let list = |archive: &[u8]| {
        Tool::new("tar")
            .args([
                "-tvv",
                "--full-time",
                "--numeric-owner",
                "--xattrs",
                "-f",
                "-",
            ])
            .input(archive)
            .ok()
            .text()
    };
    assert_eq!(list(&own), list(&theirs));
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let own = changes::overlay(&diff, &lowers).unwrap();
    let own: Vec<_> = own.iter().map(|change| format!("{change}\n")).collect();
    let theirs = peer.tool().args(["changes", &layer]).ok().text();
    let theirs = theirs.replace("Modify ", "C ").replace("Add ", "A ");
    let theirs = theirs.replace("Delete ", "D ").replace(['"', '\\'], "");
    assert_eq!(sorted(own.concat()), sorted(theirs));
}

#[test]
fn naive_changes_equal_those_of_go() {
    let peer = Peer::new("vfs");
    let archive = &archives(&peer.scratch)[0];
    let parent = peer.import(archive, "").unwrap();
    let layer = peer.tool().args(["create-layer", &parent]).ok().last_line();
    let tree = peer.tree(&layer);
    let script = "rm -r hard d/f null; mkdir null; echo 1 > null/x; chmod 700 empty; touch 'odd<&>\"'; \
         rm -r d/1; ln -sfn y d/l; mkdir -p new/dir; chown 5 fifo; touch -d @1600000000 disk";
    Tool::new("sh")
        .args(["-ec", &format!("cd '{}'; {script}", tree.display())])
        .ok();
    let new = Dir::open(&tree).unwrap();
    new.set_attribute("big", b"user.x", b"1").unwrap();
    let theirs = peer.tool().args(["changes", &layer]).ok().text();
    let theirs = theirs.replace("Modify ", "C ").replace("Add ", "A ");
    let mut theirs: Vec<_> = theirs
        .replace("Delete ", "D ")
        .replace(['"', '\\'], "")
        .lines()
        .map(str::to_owned)
        .collect();
    theirs.sort();
    let old = Dir::open(peer.tree(&parent)).unwrap();
    let own = changes::between(Some(&Tree::new(&old)), &Tree::new(&new)).unwrap();
    let mut own: Vec<_> = own
        .iter()
        .map(|change| change.to_string().replace(['"', '\\'], ""))
        .collect();
    own.sort();
    assert_eq!(own, theirs);
}
