//! Archives good and hostile, unpacked as root.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::archive::id_shift::IdRange;
use crate::archive::tar::Writer;

const OVERLAY: Whiteouts = Whiteouts::Overlay {
    user_attributes: false,
};

/// An archive in the making.
struct Archive(Writer<Vec<u8>>);

fn entry(kind: Kind, name: &[u8]) -> Entry {
    Entry {
        kind,
        name: name.to_vec(),
        link: Vec::new(),
        mode: if kind == Kind::Directory {
            0o755
        } else {
            0o644
        },
        uid: 0,
        gid: 0,
        size: 0,
        modified: Time::from(1000),
        accessed: None,
        device: (0, 0),
        attributes: Vec::new(),
        sparse: None,
    }
}

impl Archive {
    fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn with(mut self, entry: &Entry) -> Self {
        self.0.entry(entry).unwrap();
        self
    }

    fn file(mut self, name: &str, contents: &[u8]) -> Self {
        let size = contents.len() as u64;
        let kind = Kind::Regular;
        self.0
            .entry(&Entry {
                size,
                ..entry(kind, name.as_bytes())
            })
            .unwrap();
        self.0.data(contents).unwrap();
        self
    }

    fn dir(self, name: &str) -> Self {
        self.with(&entry(Kind::Directory, name.as_bytes()))
    }

    fn link(self, kind: Kind, name: &str, target: &str) -> Self {
        let link = target.as_bytes().to_vec();
        self.with(&Entry {
            link,
            ..entry(kind, name.as_bytes())
        })
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(Kind::Symlink, name, target)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// A directory with a neighbour that must stay as it is.
struct Place {
    folder: tempfile::TempDir,
    root: Dir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("outside"), "untouched").unwrap();
        let root = Dir::open(folder.path().join("root")).unwrap();
        Self { folder, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    fn unpack(&self, archive: Archive) -> Result<Summary, UnpackError> {
        self.unpack_with(archive, &Options::new(OVERLAY))
    }

    fn unpack_with(&self, archive: Archive, options: &Options) -> Result<Summary, UnpackError> {
        let bytes = archive.bytes();
        let mut recipe = tar_split::Writer::new(Vec::new());
        let result = unpack(&*bytes, &self.root, options, Some(&mut recipe));
        let outside = self.folder.path().join("outside");
        assert_eq!(std::fs::read(outside).unwrap(), b"untouched");
        assert_eq!(std::fs::read_dir(&self.folder).unwrap().count(), 2);
        result
    }

    fn stat(&self, name: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(name)).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Unpacks bytes as an overlay layer and rebuilds them.
fn round_trip(tar: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let place = Place::new();
    let mut recipe = tar_split::Writer::new(Vec::new());
    let options = Options::new(OVERLAY);
    unpack(tar, &place.root, &options, Some(&mut recipe))?;
    let recipe = recipe.finish().unwrap();
    let mut out = Vec::new();
    let mut open = |name: &[u8]| -> io::Result<sys::File> {
        Ok(place.root.open_file_in_root(path(&names::confine(name)))?)
    };
    tar_split::reassemble(&*recipe, &mut open, &mut out).unwrap();
    Ok(out)
}

#[test]
fn every_kind_of_member_is_made() {
    let place = Place::new();
    let rich = Entry {
        mode: 0o4755,
        uid: 7,
        gid: 8,
        modified: Time {
            seconds: 1_600_000_000,
            nanoseconds: 123_456_789,
        },
        attributes: vec![
            (b"user.color".to_vec(), b"red".to_vec()),
            // A version 2 capability: cap_net_raw, effective and permitted.
            (
                b"security.capability".to_vec(),
                [&[1, 0, 0, 2, 0, 32, 0, 0], &[0; 12][..]].concat(),
            ),
            (b"security.selinux".to_vec(), b"x".to_vec()),
        ],
        ..entry(Kind::Regular, b"d/rich")
    };
    let archive = Archive::new()
        .with(&Entry {
            mode: 0o711,
            uid: 5,
            ..entry(Kind::Directory, b"./")
        })
        .with(&Entry {
            mode: 0o2500,
            gid: 9,
            ..entry(Kind::Directory, b"d/")
        })
        .with(&rich)
        .file("d/plain", b"hello")
        .dir("d/below/")
        .symlink("d/symlink", "/etc/passwd")
        .link(Kind::HardLink, "hard", "d/plain")
        .with(&entry(Kind::Fifo, b"fifo"))
        .with(&Entry {
            device: (1, 3),
            mode: 0o666,
            ..entry(Kind::CharDevice, b"null")
        });
    let summary = place.unpack(archive).unwrap();
    assert_eq!(summary.size, 5 + 11);
    assert_eq!(summary.entries, 9);
    assert_eq!(summary.uids, BTreeSet::from([0, 5, 7]));
    assert_eq!(summary.gids, BTreeSet::from([0, 8, 9]));

    let root = place.stat("");
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), root.mtime()),
        (0o711, 5, 1000)
    );
    let dir = place.stat("d");
    assert_eq!(
        (dir.mode() & 0o7777, dir.gid(), dir.mtime()),
        (0o2500, 9, 1000)
    );
    let rich = place.stat("d/rich");
    assert_eq!(
        (rich.mode() & 0o7777, rich.uid(), rich.gid()),
        (0o4755, 7, 8)
    );
    assert_eq!(
        (rich.mtime(), rich.mtime_nsec()),
        (1_600_000_000, 123_456_789)
    );
    let attribute = |key: &[u8]| {
        place
            .root
            .open_dir("d")
            .unwrap()
            .attribute("rich", key)
            .unwrap()
    };
    assert_eq!(attribute(b"user.color"), Some(b"red".to_vec()));
    assert_eq!(
        attribute(b"security.capability").map(|value| value.len()),
        Some(20)
    );
    assert_eq!(attribute(b"security.selinux"), None);
    // A directory that gives its group changes nothing of what the archive says.
    assert_eq!(
        (place.stat("d/plain").gid(), place.stat("d/below").gid()),
        (0, 0)
    );
    assert_eq!(place.stat("d/below").mode() & 0o7777, 0o755);
    assert_eq!(place.stat("hard").ino(), place.stat("d/plain").ino());
    assert_eq!(place.read("hard"), b"hello");
    assert_eq!(
        std::fs::read_link(place.path("d/symlink")).unwrap(),
        PathBuf::from("/etc/passwd")
    );
    assert!(place.stat("fifo").file_type().is_fifo());
    assert_eq!(place.stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(place.stat("null").mode() & 0o7777, 0o666);
}

#[test]
fn names_stay_inside() {
    let place = Place::new();
    let archive = Archive::new()
        .file("../outside", b"1")
        .file("/absolute/file", b"2")
        .file("a/../../../b", b"3")
        .symlink("up", "../..")
        .file("up/outside2", b"4")
        .symlink("root", "/")
        .file("root/c", b"5");
    place.unpack(archive).unwrap();
    assert_eq!(place.read("outside"), b"1");
    assert_eq!(place.read("absolute/file"), b"2");
    assert_eq!(place.read("b"), b"3");
    assert_eq!(place.read("outside2"), b"4");
    assert_eq!(place.read("c"), b"5");
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    let outside = outside.to_str().unwrap();
    let archive = Archive::new()
        .symlink("link", outside)
        .file("x", b"")
        // The same name again, in a spelling that a recipe would not let pass.
        .symlink("dir", place.folder.path().to_str().unwrap())
        .file("dir/outside", b"inside");
    place.unpack(archive).unwrap();
    // Missing directories on the way of the link were made inside.
    let inside = place.path("").join(outside.strip_prefix('/').unwrap());
    assert_eq!(std::fs::read(inside).unwrap(), b"inside");

    // Without a recipe duplicates are allowed: the later one replaces the link itself.
    let bytes = Archive::new()
        .symlink("link", outside)
        .file("link", b"file")
        .bytes();
    let options = Options::new(OVERLAY);
    unpack::<Vec<u8>>(&*bytes, &place.root, &options, None).unwrap();
    assert_eq!(place.read("link"), b"file");
    assert_eq!(std::fs::read(outside).unwrap(), b"untouched");
}

#[test]
fn a_loop_of_links_is_an_error() {
    let place = Place::new();
    let archive = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"");
    let error = place.unpack(archive).unwrap_err();
    assert!(matches!(error, UnpackError::System(_)), "{error}");
}

#[test]
fn hard_links_stay_inside_and_need_their_target() {
    let place = Place::new();
    for target in ["../outside", "/etc/passwd", "missing", "gone/x"] {
        let archive = Archive::new().link(Kind::HardLink, "hard", target);
        let error = place.unpack(archive).unwrap_err();
        assert!(
            matches!(&error, UnpackError::System(error) if error.is_not_found()),
            "{error}"
        );
    }
    // Through a link that leads out the target is looked for inside.
    let folder = place.folder.path().to_str().unwrap();
    let archive = Archive::new()
        .symlink("out", folder)
        .link(Kind::HardLink, "hard", "out/outside");
    assert!(place.unpack(archive).is_err());
    // A link to a symbolic link is another name of that.
    let archive = Archive::new()
        .symlink("s", "/etc/passwd")
        .link(Kind::HardLink, "h", "s");
    let place = Place::new();
    place.unpack(archive).unwrap();
    assert!(place.stat("h").is_symlink());
}

#[test]
fn whiteouts_become_marks_of_overlay() {
    let place = Place::new();
    let whiteout = Entry {
        uid: 3,
        ..entry(Kind::Regular, b"d/.wh.gone")
    };
    let archive = Archive::new()
        .with(&whiteout)
        .file("new/.wh..wh..opq", b"")
        .file(".wh.again", b"")
        .dir("again/")
        .file(".wh.twice", b"")
        .file("twice/.wh.below", b"")
        .file("kept", b"1")
        .file(".wh.kept", b"");
    place.unpack(archive).unwrap();
    let gone = place.stat("d/gone");
    assert!(is_whiteout(&gone));
    assert_eq!((gone.mode() & 0o7777, gone.uid()), (0, 3));
    let opaque = |name: &str| {
        let dir = place.root.open_dir(name).unwrap();
        dir.attribute("", b"trusted.overlay.opaque").unwrap()
    };
    assert_eq!(opaque("new"), Some(b"y".to_vec()));
    assert_eq!(opaque("d"), None);
    // Deleted, then made anew: what lower layers have in it stays deleted.
    assert_eq!(opaque("again"), Some(b"y".to_vec()));
    assert!(is_whiteout(&place.stat("twice")));
    assert_eq!(place.read("kept"), b"1");
}

#[test]
fn user_attributes_stand_for_trusted_ones_where_asked() {
    let place = Place::new();
    let attribute = |key: &[u8]| (key.to_vec(), b"y".to_vec());
    let archive = Archive::new().file("d/.wh..wh..opq", b"").with(&Entry {
        attributes: vec![
            attribute(b"user.overlay.redirect"),
            attribute(b"trusted.overlay.redirect"),
            attribute(b"user.fine"),
        ],
        ..entry(Kind::Directory, b"e/")
    });
    let options = Options::new(Whiteouts::Overlay {
        user_attributes: true,
    });
    place.unpack_with(archive, &options).unwrap();
    let attributes = |name: &str| place.root.open_dir(name).unwrap().attributes("").unwrap();
    assert!(attributes("d").contains(&b"user.overlay.opaque".to_vec()));
    let attributes = attributes("e");
    assert!(attributes.contains(&b"user.fine".to_vec()));
    assert!(
        !attributes
            .iter()
            .any(|key| key.starts_with(b"user.overlay"))
    );
    assert!(!attributes.iter().any(|key| key.starts_with(b"trusted")));
}

#[test]
fn whiteouts_are_carried_out_where_there_is_no_overlay() {
    let place = Place::new();
    let options = Options::new(Whiteouts::Apply);
    let lower = Archive::new()
        .file("a/1", b"")
        .file("a/2", b"")
        .file("a/deep/3", b"")
        .file("b/1", b"")
        .file("c", b"");
    place.unpack_with(lower, &options).unwrap();
    let upper = Archive::new()
        .file("a/deep/new", b"")
        .file("a/2", b"2")
        .file("a/.wh..wh..opq", b"")
        .file("b/.wh.1", b"")
        .file("b/.wh.missing", b"")
        .file(".wh.c", b"")
        .file("none/.wh.x", b"")
        .file(".wh..wh.plnk/0.1", b"")
        .file("own", b"")
        .file(".wh.own", b"");
    place.unpack_with(upper, &options).unwrap();
    let mut found: Vec<_> = Command::new("find")
        .current_dir(place.path(""))
        .args(["-mindepth", "1"])
        .output()
        .map(|output| String::from_utf8(output.stdout).unwrap())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort();
    assert_eq!(
        found,
        ["./a", "./a/2", "./a/deep", "./a/deep/new", "./b", "./own"]
    );
}

#[test]
fn what_a_layer_may_not_bring_is_refused() {
    let cases = [
        entry(Kind::CharDevice, b"whiteout"),
        entry(Kind::Regular, b"d/.wh."),
        entry(Kind::Regular, b".wh.."),
        entry(Kind::Regular, b".wh..."),
        entry(Kind::Regular, b"./"),
        entry(Kind::Symlink, b".."),
        entry(Kind::Other(b'V'), b"volume"),
        Entry {
            uid: 1 << 32,
            ..entry(Kind::Regular, b"u")
        },
        Entry {
            gid: 0xffff_ffff,
            ..entry(Kind::Regular, b"g")
        },
        Entry {
            uid: -1,
            ..entry(Kind::Regular, b"n")
        },
        entry(Kind::Regular, &[b'x'; 256]),
    ];
    for case in cases {
        for whiteouts in [OVERLAY, Whiteouts::Apply] {
            let place = Place::new();
            let archive = Archive::new().with(&case);
            let error = place
                .unpack_with(archive, &Options::new(whiteouts))
                .unwrap_err();
            assert!(
                matches!(error, UnpackError::Forbidden { .. }),
                "{case:?}: {error}"
            );
        }
    }
}

#[test]
fn duplicate_names_are_refused_when_a_recipe_is_written() {
    for second in ["f", "./f", "/f", "../f", "d/../f"] {
        let place = Place::new();
        let archive = Archive::new().file("f", b"1").file(second, b"2");
        let error = place.unpack(archive).unwrap_err();
        assert!(
            matches!(error, UnpackError::Duplicate(_)),
            "{second}: {error}"
        );
    }
}

#[test]
fn trees_deeper_than_any_path_exhaust_nothing() {
    let deep = "d/".repeat(1100);
    let archive = Archive::new()
        .symlink("link", &format!("/{deep}"))
        .file(&format!("link/{deep}x"), b"");
    let place = Place::new();
    place.unpack(archive).unwrap();
    // Whether they end well or with the kernel's error for long paths, they end.
    let root = &place.root;
    drop(crate::archive::pack::pack(
        root,
        io::sink(),
        &Default::default(),
    ));
    drop(crate::archive::changes::size(root));
    drop(crate::archive::changes::overlay(root, &[]));
    let tree = crate::archive::changes::Tree::new(root);
    drop(crate::archive::changes::between(None, &tree));
    place.root.remove_contents().unwrap();
}

#[test]
fn limits_name_themselves() {
    let archive = || Archive::new().file("one", &[0; 600]).file("two", &[0; 600]);
    let limit = |change: fn(&mut Limits)| {
        let mut options = Options::new(OVERLAY);
        change(&mut options.limits);
        let error = Place::new().unpack_with(archive(), &options).unwrap_err();
        assert!(matches!(error, UnpackError::Limit { .. }));
        error.to_string()
    };
    assert!(limit(|limits| limits.entries = 1).ends_with("1 entries"));
    assert!(limit(|limits| limits.bytes = 1199).ends_with("1199 bytes"));
    assert!(limit(|limits| limits.path = 2).ends_with("2 bytes of one name"));
    // What a member claims counts, before its payload is read.
    let mut options = Options::new(OVERLAY);
    options.limits.bytes = 1 << 40;
    let mut writer = Writer::new(Vec::new());
    let huge = Entry {
        size: i64::MAX as u64,
        ..entry(Kind::Regular, b"huge")
    };
    writer.entry(&huge).unwrap();
    let place = Place::new();
    let result = unpack::<Vec<u8>>(&*writer.abandon(), &place.root, &options, None);
    assert!(matches!(result, Err(UnpackError::Limit { .. })));
}

#[test]
fn owners_are_mapped_or_refused() {
    let place = Place::new();
    let range = IdRange {
        container: 0,
        host: 100_000,
        size: 10,
    };
    let mut options = Options::new(OVERLAY);
    options.id_maps = IdMaps {
        uids: vec![range],
        gids: vec![range],
    };
    let archive = Archive::new()
        .with(&Entry {
            uid: 9,
            ..entry(Kind::Regular, b"made/up/file")
        })
        .symlink("s", "x");
    place.unpack_with(archive, &options).unwrap();
    assert_eq!(place.stat("made/up/file").uid(), 100_009);
    assert_eq!(place.stat("made").uid(), 100_000);
    assert_eq!(place.stat("s").gid(), 100_000);
    let archive = Archive::new().with(&Entry {
        uid: 10,
        ..entry(Kind::Regular, b"f")
    });
    let error = place.unpack_with(archive, &options).unwrap_err();
    assert!(matches!(error, UnpackError::Forbidden { .. }));
}

#[test]
fn junk_and_truncated_archives_say_so() {
    let fail = |bytes: &[u8]| round_trip(bytes).unwrap_err().to_string();
    assert!(fail(&b"junk".repeat(1000)).contains("invalid tar header"));
    assert!(fail(b"junk").contains("unexpected EOF"));
    let whole = Archive::new().file("f", &[7; 2000]).bytes();
    for len in [100, 511, 513, 1000, 2511] {
        assert_eq!(fail(&whole[..len]), "unexpected EOF", "{len}");
    }
    let mut wrong = whole.clone();
    wrong[0] ^= 1;
    assert!(fail(&wrong).contains("invalid tar header"));
}

#[test]
fn every_byte_of_an_archive_is_rebuilt() {
    let whole = Archive::new()
        .dir("d/")
        .file("d/f", &[7; 200_000])
        .link(Kind::HardLink, "h", "d/f")
        .file("empty", b"")
        .file(&"long/".repeat(60), b"long")
        .bytes();
    assert_eq!(round_trip(&whole).unwrap(), whole);
    // Without an end marker, with half of one, with padding cut short, and with anything after.
    let end = whole.len() - 1024;
    for len in [end, end + 512, end - 100] {
        assert_eq!(round_trip(&whole[..len]).unwrap(), &whole[..len], "{len}");
    }
    let trailing = [&whole, &b"junk".repeat(700_000)[..], &whole].concat();
    assert!(round_trip(&trailing).unwrap() == trailing);
    assert_eq!(round_trip(b"").unwrap(), b"");
    assert_eq!(round_trip(&[0; 10240]).unwrap(), [0; 10240]);
}

#[test]
fn archives_of_gnu_tar_are_unpacked_as_it_does() {
    let source = Place::new();
    let write = |name: &str, contents: &[u8]| {
        std::fs::write(source.path(name), contents).unwrap();
    };
    std::fs::create_dir_all(source.path(&"deep/".repeat(60))).unwrap();
    write(&format!("{}file", "deep/".repeat(60)), b"deep");
    write("plain", b"hello\n");
    std::os::unix::fs::symlink("x".repeat(300), source.path("symlink")).unwrap();
    std::fs::hard_link(source.path("plain"), source.path("hard")).unwrap();
    std::os::unix::fs::chown(source.path("plain"), Some(3_000_000), Some(70)).unwrap();
    let mode = std::fs::Permissions::from_mode(0o6711);
    std::fs::set_permissions(source.path("plain"), mode).unwrap();
    let sparse = std::fs::File::create(source.path("sparse")).unwrap();
    for piece in 0..40_u64 {
        use std::os::unix::fs::FileExt;
        sparse
            .write_all_at(b"data", piece * 100_000 + 50_000)
            .unwrap();
    }
    sparse.set_len(5_000_000).unwrap();
    let name: std::ffi::OsString =
        std::os::unix::ffi::OsStringExt::from_vec(b"not\xff\xfeutf8".to_vec());
    std::fs::write(source.path("").join(name), b"x").unwrap();
    let listing = |place: &Place| {
        let script = "find . -mindepth 1 -printf '%p %y %m %U:%G %s %Ts %n %l\n' | sort; \
             find . -type f -print0 | sort -z | xargs -0 md5sum";
        let output = Command::new("sh")
            .current_dir(place.path(""))
            .args(["-c", script])
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    };
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=pax"],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
        &["--format=pax", "--pax-option=comment=global"],
        &["--format=pax", "-b", "300"],
    ] {
        let output = Command::new("tar")
            .args(options)
            .args(["-C", source.path("").to_str().unwrap(), "-c", "."])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(
            round_trip(&output.stdout).unwrap() == output.stdout,
            "{options:?}"
        );
        let place = Place::new();
        let own = Options::new(OVERLAY);
        unpack::<Vec<u8>>(&*output.stdout, &place.root, &own, None).unwrap();
        // GNU tar gives its global header a name in /tmp; it makes no directory.
        assert_eq!(
            String::from_utf8_lossy(&listing(&place)),
            String::from_utf8_lossy(&listing(&source)),
            "{options:?}"
        );
        let is_sparse = options.contains(&"-S");
        assert_eq!(
            place.stat("sparse").blocks() < 5000,
            is_sparse,
            "{options:?}"
        );
    }
}

/// Numbers that look random and are the same in every run (xorshift).
fn scrambled(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

/// Damages an archive in a few places and corrects the checksums of its headers, so that the damage is read.
fn damaged(archive: &[u8], seed: u64) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    let mut random = scrambled(seed);
    for _ in 0..=random(4) {
        let at = random(bytes.len());
        bytes[at] = match random(6) {
            0 => 0,
            1 => 0xff,
            2 => b'/',
            3 => b'7',
            _ => random(256) as u8,
        };
    }
    if random(4) == 0 {
        bytes.truncate(random(bytes.len()));
    }
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

#[test]
fn damaged_archives_are_errors_or_trees_but_nothing_else() {
    let archive = Archive::new()
        .dir("d/")
        .file("d/f", &[7; 600])
        .symlink("d/l", "../../outside")
        .link(Kind::HardLink, "h", "d/f")
        .file(&"long/".repeat(30), b"long")
        .file("d/.wh.gone", b"")
        .with(&Entry {
            attributes: vec![(b"user.a".to_vec(), b"1".to_vec())],
            ..entry(Kind::Regular, b"rich")
        })
        .bytes();
    let mut options = Options::new(OVERLAY);
    options.limits.bytes = 1 << 30;
    let mut good = 0;
    for seed in 1..200 {
        let bytes = damaged(&archive, seed);
        let place = Place::new();
        let mut recipe = tar_split::Writer::new(Vec::new());
        if unpack(&*bytes, &place.root, &options, Some(&mut recipe)).is_ok() {
            good += 1;
            let recipe = recipe.finish().unwrap();
            let mut out = Vec::new();
            let mut open = |name: &[u8]| -> io::Result<sys::File> {
                Ok(place.root.open_file_in_root(path(&names::confine(name)))?)
            };
            // A later member may have written through a link of the archive's over an earlier one.
            if tar_split::reassemble(&*recipe, &mut open, &mut out).is_ok() {
                assert!(out == bytes, "seed {seed}");
            }
        }
        let outside = place.folder.path().join("outside");
        assert_eq!(std::fs::read(outside).unwrap(), b"untouched", "seed {seed}");
        assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 2);
    }
    assert!(good > 10, "{good}");
}
