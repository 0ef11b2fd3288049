//! What members become, and which are refused.

use super::*;

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
