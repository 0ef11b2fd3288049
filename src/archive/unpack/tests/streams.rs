//! Archives as a whole: rebuilt byte for byte, by other programs, cut short, damaged.

use super::*;

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
