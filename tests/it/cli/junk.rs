//! What `applydiff` says of bytes that are no archive, in every compression.

use std::io::Write;

use strata::archive::compression::{Compression, encoder};

use super::Sandbox;

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Bzip2,
    Compression::Xz,
];

fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Bzip2 => {
            let level = bzip2::Compression::default();
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), level);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Xz => {
            let mut out = liblzma::write::XzEncoder::new(Vec::new(), 6);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        _ => {
            let mut out = encoder(compression, Vec::new()).unwrap();
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
    }
}

/// Bytes without a pattern, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(byte).collect()
}

/// A store with a layer, and what came of giving it junk.
struct Place(Sandbox);

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.ok(&["create-layer", "-i", "l1"]);
        Self(sandbox)
    }

    fn refuses(&self, what: &str, bytes: &[u8], texts: &[&str]) {
        let file = self.0.file("junk", bytes);
        let said = self.0.fails(&["applydiff", "-f", &file, "l1"]);
        let is_expected = texts.iter().any(|text| said.contains(text));
        assert!(is_expected, "{what}: {said}");
        // Nothing is left of it, and the layer is whole.
        assert_eq!(self.0.ok(&["changes", "l1"]), "", "{what}");
        assert_eq!(self.0.ok(&["exists", "l1"]), "l1: true\n", "{what}");
    }
}

const SHORT: &str = "unexpected EOF";
const INVALID: &str = "invalid tar header";

#[test]
fn junk_is_no_archive_in_any_compression() {
    let place = Place::new();
    for compression in ALL {
        let refuses = |what: &str, junk: &[u8], text: &str| {
            let bytes = compressed(compression, junk);
            place.refuses(&format!("{what} in {compression}"), &bytes, &[text]);
        };
        refuses("one byte", b"x", SHORT);
        refuses("a word", b"junk\n", SHORT);
        refuses("nearly a block", &noise(511), SHORT);
        refuses("a block", &noise(512), INVALID);
        refuses("noise", &noise(300_000), INVALID);
        refuses(
            "a block of zeros, and noise",
            &[&[0; 512][..], &noise(512)].concat(),
            INVALID,
        );
    }
}

#[test]
fn junk_that_begins_as_a_compression_is_refused_too() {
    let place = Place::new();
    // An archive of nothing, which would do by itself.
    let archive = [0; 10240];
    for compression in ALL.into_iter().filter(|one| *one != Compression::None) {
        let whole = compressed(compression, &archive);
        let start = &whole[..whole.len().min(10)];
        for (what, bytes) in [
            ("cut short", whole[..whole.len() - 3].to_vec()),
            ("cut in the middle", whole[..whole.len() / 2].to_vec()),
            ("nothing behind the header", start.to_vec()),
        ] {
            place.refuses(&format!("{compression}, {what}"), &bytes, &[SHORT]);
        }
        for (what, bytes) in [
            ("noise behind the header", [start, &noise(5000)].concat()),
            ("noise behind the end", [&whole, &noise(100)[..]].concat()),
        ] {
            place.refuses(&format!("{compression}, {what}"), &bytes, &[SHORT, INVALID]);
        }
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x5a;
        place.refuses(
            &format!("{compression}, a byte changed"),
            &changed,
            &[SHORT, INVALID],
        );
    }
}

/// As in Go, where a stream without a byte ends before the first member.
#[test]
fn a_stream_of_nothing_adds_nothing() {
    let place = Place::new();
    for compression in ALL {
        let file = place.0.file("nothing", compressed(compression, b""));
        place.0.ok(&["applydiff", "-f", &file, "l1"]);
        assert_eq!(place.0.ok(&["changes", "l1"]), "", "{compression}");
    }
}
