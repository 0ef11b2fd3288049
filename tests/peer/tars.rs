//! Layers as every writer of archives makes them: they come back byte for byte, from Strata and from the newest peer,
//! whoever took them in, and both have the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use strata::sys::Dir;

use crate::shared::binary;
use crate::support::image;
use crate::support::scratch::{Scratch, unmount_below};
use crate::support::tool::{self, Tool};

/// `cap_net_raw+ep`, as version 2 has it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A store that both use in turn.
struct Store {
    scratch: Scratch,
}

impl Store {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("tars");
        Self { scratch }
    }

    fn tool(&self, tool: Tool) -> Tool {
        tool.args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", "overlay"])
    }

    fn both(&self) -> [Tool; 2] {
        let peer = Tool::new("containers-storage-newest");
        [Tool::at(&binary()), peer].map(|tool| self.tool(tool))
    }

    /// The layer that one of both makes of an archive.
    fn import(&self, tool: Tool, archive: &[u8]) -> String {
        let file = self.scratch.text("archive");
        fs::write(&file, archive).unwrap();
        tool.args(["import-layer", "-f", &file]).ok().last_line()
    }

    /// What Strata and the peer make of a layer.
    fn diffs(&self, layer: &str) -> [Vec<u8>; 2] {
        let file = self.scratch.text("diff");
        let diffs = self.both().map(|tool| {
            tool.args(["diff", "-u", "-f", &file, layer]).ok();
            fs::read(&file).unwrap()
        });
        unmount_below(self.scratch.path());
        diffs
    }

    fn tree(&self, layer: &str) -> BTreeMap<String, String> {
        let path = self
            .scratch
            .path()
            .join(format!("graph/overlay/{layer}/diff"));
        let mut found = BTreeMap::new();
        list(&path, &path, &mut found);
        found
    }

    /// What Strata takes in comes back from both.
    fn assert_ours(&self, what: &str, archive: &[u8]) -> String {
        let [strata, _] = self.both();
        let layer = self.import(strata, archive);
        for (who, diff) in ["Strata", "the peer"].iter().zip(self.diffs(&layer)) {
            assert!(diff == archive, "{what}: {who} of our layer");
        }
        layer
    }

    /// What either takes in comes back from both, and the trees are equal.
    fn assert_exact(&self, what: &str, archive: &[u8]) {
        let ours = self.assert_ours(what, archive);
        let [_, peer] = self.both();
        let theirs = self.import(peer, archive);
        for (who, diff) in ["Strata", "the peer"].iter().zip(self.diffs(&theirs)) {
            assert!(diff == archive, "{what}: {who} of the peer's layer");
        }
        let (ours, theirs) = (self.tree(&ours), self.tree(&theirs));
        for (name, theirs) in &theirs {
            assert_eq!(ours.get(name), Some(theirs), "{what}: {name}");
        }
        assert_eq!(ours.len(), theirs.len(), "{what}");
    }
}

/// Everything about each name below `path`. The peer gives whiteouts the time of their making, and the time 0 to what is from
/// before 1970 or after the last nanosecond that 64 bits count.
fn list(root: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for name in names {
        let data = fs::symlink_metadata(&name).unwrap();
        let key = format!("{:?}", name.strip_prefix(root).unwrap());
        found.insert(key, describe(&name, &data));
        if data.is_dir() {
            list(root, &name, found);
        }
    }
}

fn describe(path: &Path, data: &fs::Metadata) -> String {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap();
    let mut keys = dir.attributes(name).unwrap();
    keys.sort();
    let attribute = |key: &Vec<u8>| {
        let value = dir.attribute(name, key).unwrap();
        (String::from_utf8_lossy(key).into_owned(), value)
    };
    let attributes: Vec<_> = keys.iter().map(attribute).collect();
    let content = match data.file_type() {
        kind if kind.is_file() => image::digest(&fs::read(path).unwrap()),
        kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
        _ => String::new(),
    };
    let is_whiteout = data.file_type().is_char_device() && data.rdev() == 0;
    let time = match data.mtime() {
        seconds @ 0..=9_223_372_036 => (seconds, data.mtime_nsec()),
        _ => (0, 0),
    };
    format!(
        "{:o} {}:{} {} {:#x} links {} at {:?} {attributes:?} {content}",
        data.mode(),
        data.uid(),
        data.gid(),
        if data.is_dir() { 0 } else { data.len() },
        data.rdev(),
        if data.is_dir() { 0 } else { data.nlink() },
        Some(time).filter(|_| !is_whiteout),
    )
}

/// A tree with one of everything; `is_plain` keeps to what the oldest formats can say.
pub(crate) fn make_tree(root: &Path, is_plain: bool) {
    let plain = "mkdir -p d/sub; echo hello > d/f; ln d/f d/hard; ln -s ../f d/sub/link; mkfifo d/fifo; \
         mknod d/null c 1 3; mknod d/disk b 8 1; : > d/empty; chmod 6755 d/f; chmod 1777 d/sub; \
         chown 12:34 d/f; head -c 70000 /dev/urandom > d/big; touch d/.wh.deleted; mkdir d/opaque; \
         touch d/opaque/.wh..wh..opq";
    let rest = "long=d/$(printf '%0120d' 1)/$(printf '%0130d' 2); mkdir -p $long; echo deep > $long/file; \
         ln -s $(printf '%0180d' 3) d/far; ln $long/file d/deep; chown 3000000:4000000 d/big; \
         printf x > \"$(printf 'd/\\377\\376')\"; printf y > d/ü; printf z > 'd/a b<&>\"\\'";
    let script = if is_plain {
        plain.to_owned()
    } else {
        format!("{plain}; {rest}")
    };
    let times = "find . -exec touch -hd @1600000000.123456789 {} +";
    Tool::new("sh")
        .args(["-ec", &format!("cd \"$0\"; {script}; {times}")])
        .arg(root)
        .ok();
}

pub(crate) fn add_attributes(root: &Path) {
    let dir = Dir::open(root).unwrap();
    for (name, key, value) in [
        ("d/big", &b"security.capability"[..], CAPABILITY),
        ("d/f", b"user.a", b"1"),
        ("d/f", b"user.overlay.origin", b"kept as data"),
        ("d/sub", b"user.long", &[7; 900]),
    ] {
        dir.set_attribute(name, key, value).unwrap();
    }
}

#[test]
fn archives_of_gnu_tar_bsdtar_and_busybox() {
    let store = Store::new();
    let (plain, full) = (store.scratch.dir("plain"), store.scratch.dir("full"));
    make_tree(&plain, true);
    make_tree(&full, false);
    add_attributes(&full);
    let gnu = |options: &[&str], root: &Path| {
        let tar = Tool::new("tar")
            .args(options)
            .args(["--sort=name", "-c", "-C"]);
        tar.arg(root).arg("d").ok().stdout
    };
    let bsd = |format: &str, root: &Path| {
        let tar = Tool::new("bsdtar").args(["--format", format, "-cf", "-", "-C"]);
        tar.arg(root).arg("d").ok().stdout
    };
    let busybox = Tool::new("busybox").args(["tar", "-c", "-C"]);
    let busybox = busybox.arg(&plain).arg("d").ok().stdout;
    let attributes = ["--xattrs", "--xattrs-include=*"];
    let whole = |format| [&["--format", format], &attributes[..]].concat();
    for (what, archive) in [
        (
            "GNU tar, v7",
            gnu(
                &[
                    "--format=v7",
                    "--exclude=fifo",
                    "--exclude=null",
                    "--exclude=disk",
                ],
                &plain,
            ),
        ),
        ("GNU tar, ustar", gnu(&["--format=ustar"], &plain)),
        ("GNU tar, oldgnu", gnu(&["--format=oldgnu"], &full)),
        (
            "GNU tar, gnu",
            gnu(&["--format=gnu", "--atime-preserve=system"], &full),
        ),
        ("GNU tar, posix", gnu(&whole("posix"), &full)),
        (
            "GNU tar, incremental",
            gnu(&["--format=gnu", "--no-check-device", "-b", "7"], &full),
        ),
        ("bsdtar, ustar", bsd("ustar", &plain)),
        ("bsdtar, gnutar", bsd("gnutar", &plain)),
        ("bsdtar, pax", bsd("pax", &full)),
        ("bsdtar, restricted pax", bsd("paxr", &plain)),
        ("busybox", busybox),
    ] {
        store.assert_exact(what, &archive);
    }
}

/// The peer takes in none of old GNU's (type `S` is unknown to it), and expands the others in its recipe, so that they don't
/// come out as they were.
#[test]
fn sparse_files_of_every_format() {
    let store = Store::new();
    let root = store.scratch.dir("sparse");
    Tool::new("sh")
        .args([
            "-ec",
            "cd \"$0\"; mkdir d; for n in $(seq 40); do printf x | dd of=d/many bs=1 seek=$((n * 70000)) \
             conv=notrunc status=none; done; truncate -s 3M d/hole; printf y > d/end; truncate -s 1M d/end; \
             find . -exec touch -hd @1600000000 {} +",
        ])
        .arg(&root)
        .ok();
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let tar = Tool::new("tar")
            .args(options)
            .args(["-S", "--sort=name", "-c", "-C"]);
        let archive = tar.arg(&root).arg("d").ok().stdout;
        let ours = store.assert_ours(&format!("{options:?}"), &archive);
        let tree = store
            .scratch
            .path()
            .join(format!("graph/overlay/{ours}/diff/d"));
        for name in ["many", "hole", "end"] {
            let (was, is) = (root.join("d").join(name), tree.join(name));
            assert!(
                fs::read(&was).unwrap() == fs::read(&is).unwrap(),
                "{name} {options:?}"
            );
            let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
            assert!(blocks(&is) <= blocks(&was), "{name} has holes {options:?}");
        }
    }
}

/// What the formats allow and no command line asks for.
const PYTHON: &str = r#"
import io, sys, tarfile
kind = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}[sys.argv[1]]
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=kind, encoding="utf-8", errors="surrogateescape")
def add(name, data=None, **fields):
    info = tarfile.TarInfo(name)
    info.mtime = 1600000000
    info.size = len(data) if data else 0
    for key, value in fields.items():
        setattr(info, key, value)
    out.addfile(info, io.BytesIO(data) if data else None)
add("d", type=tarfile.DIRTYPE, mode=0o3755)
add("./d/dotted", b"1")
add("d//twice", b"2")
if sys.argv[2:]:
    add("d/contiguous", b"3", type=tarfile.CONTTYPE)
add("d/soft", type=tarfile.SYMTYPE, linkname="../d/dotted")
add("d/hard", type=tarfile.LNKTYPE, linkname="./d/dotted")
add("d/named", b"4", uname="root", gname="nobody", uid=5, gid=6)
add("d/tty", type=tarfile.CHRTYPE, devmajor=4, devminor=255, mode=0o620)
if kind != tarfile.USTAR_FORMAT:
    add("d/" + "n" * 240, b"5")
    add("d/\udcff\udcfe", b"6")
    add("d/before", b"7", mtime=-5 if kind == tarfile.GNU_FORMAT else 1)
    add("d/late", b"8", mtime=1 << 34)
    add("d/huge", b"9", uid=3000000000, gid=2500000)
if kind == tarfile.PAX_FORMAT:
    add("d/fraction", b"a", mtime=1600000000.25)
    add("d/records", b"b", pax_headers={"SCHILY.xattr.user.key": "value", "comment": "ü", "VENDOR.x": "1",
        "atime": "1600000001.5", "ctime": "1600000002"})
out.close()
"#;

#[test]
fn archives_of_python() {
    let store = Store::new();
    for format in ["ustar", "gnu", "pax"] {
        let ran = Tool::new("python3").args(["-c", PYTHON, format]).ok();
        store.assert_exact(&format!("Python, {format}"), &ran.stdout);
    }
    // The peer does not know the type `7`.
    let ran = Tool::new("python3").args(["-c", PYTHON, "ustar", "contiguous"]);
    store.assert_ours("Python, a contiguous file", &ran.ok().stdout);
}

/// As image builders write them.
const GO: &str = r#"
package main

import (
	"archive/tar"
	"os"
	"strings"
	"time"
)

func main() {
	formats := map[string]tar.Format{"pax": tar.FormatPAX, "gnu": tar.FormatGNU, "ustar": tar.FormatUSTAR}
	format := formats[os.Args[1]]
	out := tar.NewWriter(os.Stdout)
	when := time.Unix(1600000000, 0)
	add := func(header tar.Header, data string) {
		header.Format = format
		header.ModTime = when
		header.Size = int64(len(data))
		if err := out.WriteHeader(&header); err != nil {
			panic(err)
		}
		out.Write([]byte(data))
	}
	add(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o40755}, "")
	add(tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o100644, Uname: "root"}, "1")
	add(tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "f", Mode: 0o777}, "")
	add(tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o644}, "")
	for depth := 1; depth <= 60; depth++ {
		add(tar.Header{Name: "d/" + strings.Repeat("p/", depth), Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	if format != tar.FormatUSTAR {
		when = time.Unix(1600000000, 123456789)
		if format == tar.FormatGNU {
			when = time.Unix(-3, 0)
		}
		add(tar.Header{Name: "d/" + strings.Repeat("n", 200), Typeflag: tar.TypeReg, Mode: 0o4755}, "2")
		add(tar.Header{Name: "d/big", Typeflag: tar.TypeReg, Uid: 2097152, Gid: 2097153}, strings.Repeat("x", 9000))
	}
	if format == tar.FormatPAX {
		records := map[string]string{"SCHILY.xattr.user.a": "b\x00c", "SCHILY.xattr.security.capability":
			"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
		add(tar.Header{Name: "d/attributes", Typeflag: tar.TypeReg, PAXRecords: records}, "3")
		add(tar.Header{Name: "d/ü", Typeflag: tar.TypeReg, AccessTime: when, ChangeTime: when}, "4")
	}
	if err := out.Close(); err != nil {
		panic(err)
	}
}
"#;

#[test]
fn archives_of_go() {
    let store = Store::new();
    let source = store.scratch.path().join("write.go");
    fs::write(&source, GO).unwrap();
    let program = store.scratch.text("write");
    // As the tools of these tests are built, so that the library is compiled once.
    Tool::new("go")
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-o", &program])
        .arg(&source)
        .ok();
    for format in ["ustar", "gnu", "pax"] {
        let ran = Tool::at(Path::new(&program)).arg(format).ok();
        store.assert_exact(&format!("Go, {format}"), &ran.stdout);
    }
}
