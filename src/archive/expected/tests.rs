//! What is expected of a tree, and what is told of one that is otherwise.

use std::process::Command;

use super::compare::shown;
use super::*;
use crate::archive::id_shift::{IdMaps, IdRange};
use crate::archive::pack;
use crate::archive::tar::Reader;
use crate::archive::unpack::{self, Whiteouts, unpack};
use crate::sys::Dir;

const HOLDS: Holds = Holds {
    deletions: Deletions::Applied,
    owners: true,
    times: true,
    overrides: false,
};

fn shell(dir: &Dir, script: &str) {
    let mut command = Command::new("sh");
    let status = command
        .current_dir(dir.path())
        .args(["-ec", script])
        .status();
    assert!(status.unwrap().success());
}

fn place() -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    (folder, dir)
}

fn compare(expected: &Expected, root: &Dir) -> Vec<String> {
    let found = Found {
        root,
        id_maps: &IdMaps::default(),
        lowers: &[],
    };
    expected.compare(&found, HOLDS).unwrap()
}

fn take_in(expected: &mut Expected, archive: &[u8], holds: Holds) {
    expected.begin_archive();
    let mut reader = Reader::new(archive);
    while let Some(entry) = reader.next_entry().unwrap() {
        expected.add(&entry, holds);
    }
}

#[test]
fn an_unpacked_tree_is_as_expected_and_each_change_is_told() {
    let (_source_folder, source) = place();
    shell(
        &source,
        "mkdir -p a/deep b; echo x > a/file; ln a/file b/hard; ln -s file a/link; mkfifo b/fifo; \
         chmod 4711 a/file; touch -d @1600000000 a/file a/deep",
    );
    let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
    let (_folder, target) = place();
    let options = unpack::Options::new(Whiteouts::Apply);
    unpack::<Vec<u8>>(&*archive, &target, &options, None).unwrap();
    let mut expected = Expected::default();
    take_in(&mut expected, &archive, HOLDS);
    assert_eq!(compare(&expected, &target), Vec::<String>::new());
    shell(
        &target,
        "chmod 600 a/file; chown 5:6 b; rm -r a/deep; rm a/link; mkdir a/link; touch a/more; \
         touch -d @5 a b/fifo; touch -d @1600000000 a/file",
    );
    let told = compare(&expected, &target);
    let time_of = |name: &str| source.stat(name).unwrap().unwrap().st_mtime;
    assert_eq!(
        told,
        [
            format!("/a(mtime:{:#x}￫0x5)", time_of("a")),
            "/a/file(mode:4711￫0600)".to_owned(),
            "/a/link(filetype:symlink￫directory)".to_owned(),
            "+/a/more".to_owned(),
            "/b(uid:0￫5,gid:0￫6)".to_owned(),
            format!("/b/fifo(mtime:{:#x}￫0x5)", time_of("b/fifo")),
            "/b/hard(mode:4711￫0600)".to_owned(),
            "-/a/deep".to_owned(),
        ]
    );
}

#[test]
fn archives_over_each_other_leave_what_the_last_one_says() {
    let (_first_folder, first) = place();
    shell(
        &first,
        "mkdir -p a/b c; echo 1 > a/b/old; echo 2 > c/gone; echo 3 > c/kept",
    );
    let first = pack::pack(&first, Vec::new(), &pack::Options::default()).unwrap();
    let (_second_folder, second) = place();
    shell(
        &second,
        "mkdir -p a/b c; touch c/.wh.gone a/b/.wh..wh..opq; echo 4 > a/b/new",
    );
    let second = pack::pack(&second, Vec::new(), &pack::Options::default()).unwrap();
    let (_folder, target) = place();
    let options = unpack::Options::new(Whiteouts::Apply);
    let mut expected = Expected::default();
    for archive in [&first, &second] {
        unpack::<Vec<u8>>(&**archive, &target, &options, None).unwrap();
        take_in(&mut expected, archive, HOLDS);
    }
    assert_eq!(compare(&expected, &target), Vec::<String>::new());
    let found: Vec<_> = expected.names.keys().map(|name| shown(name)).collect();
    assert_eq!(found, ["/a", "/a/b", "/a/b/new", "/c", "/c/kept"]);
}

#[test]
fn what_a_directory_should_hide_and_does_not_is_told() {
    let (_lower_folder, lower) = place();
    shell(
        &lower,
        "mkdir -p d/e o; touch d/old d/new d/gone d/e/old o/old; mknod d/hidden c 0 0",
    );
    let (_source_folder, source) = place();
    shell(
        &source,
        "mkdir -p d/e o; touch d/.wh..wh..opq d/new d/e/.wh..wh..opq d/.wh.gone o/.wh..wh..opq",
    );
    let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
    let lowers = [lower];
    for (whiteouts, deletions) in [
        (
            Whiteouts::Overlay {
                user_attributes: true,
            },
            Deletions::Marks,
        ),
        (
            Whiteouts::Overlay {
                user_attributes: true,
            },
            Deletions::MarksOrFiles,
        ),
        (Whiteouts::Files, Deletions::MarksOrFiles),
    ] {
        let (_folder, target) = place();
        let options = unpack::Options::new(whiteouts);
        unpack::<Vec<u8>>(&*archive, &target, &options, None).unwrap();
        let holds = Holds { deletions, ..HOLDS };
        let mut expected = Expected::default();
        take_in(&mut expected, &archive, holds);
        let compare = || {
            let found = Found {
                root: &target,
                id_maps: &IdMaps::default(),
                lowers: &lowers,
            };
            expected.compare(&found, holds).unwrap()
        };
        assert_eq!(compare(), Vec::<String>::new(), "{whiteouts:?}");
        match whiteouts {
            Whiteouts::Files => shell(
                &target,
                "for d in d d/e; do rm $d/.wh..wh..opq; done; touch -d @5 o; touch .wh.more o/.wh.z",
            ),
            _ => {
                for dir in ["d", "d/e"] {
                    target
                        .remove_attribute(dir, b"user.overlay.opaque")
                        .unwrap();
                }
            }
        }
        let told: Vec<String> = compare()
            .into_iter()
            .filter(|line| !line.contains("mtime"))
            .collect();
        let mut all = vec!["+/d/old", "+/d/e/old"];
        if whiteouts == Whiteouts::Files {
            all = vec!["+/.wh.more", "+/d/old", "+/d/e/old", "+/o/.wh.z"];
        }
        assert_eq!(told, all, "{whiteouts:?}");
    }
}

#[test]
fn owners_are_those_of_the_container() {
    let (_source_folder, source) = place();
    shell(&source, "touch a b c far; chown 5:6 a b c; chown 500:6 far");
    let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
    shell(
        &source,
        "chown 1005:1006 a; chown 1004:1006 b; chown 5:1006 c; chown 65534:1006 far; touch -d @5 a",
    );
    let range = IdRange {
        container: 0,
        host: 1000,
        size: 100,
    };
    let id_maps = IdMaps {
        uids: vec![range],
        gids: vec![range],
    };
    let found = Found {
        root: &source,
        id_maps: &id_maps,
        lowers: &[],
    };
    let holds = Holds {
        times: false,
        ..HOLDS
    };
    let mut expected = Expected::default();
    take_in(&mut expected, &archive, holds);
    assert_eq!(
        expected.compare(&found, holds).unwrap(),
        [
            "/b(uid:5￫4)",
            "/c(host ID 5 cannot be mapped to a container ID)"
        ]
    );
}

/// What containers-storage leaves where it has a mount program.
#[test]
fn deletions_may_be_the_files_that_archives_have() {
    let holds = Holds {
        deletions: Deletions::MarksOrFiles,
        ..HOLDS
    };
    let (_folder, source) = place();
    shell(&source, "mkdir a b; touch a/.wh.gone b/.wh..wh..opq b/new");
    let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
    let mut expected = Expected::default();
    take_in(&mut expected, &archive, holds);
    let compare = || {
        let found = Found {
            root: &source,
            id_maps: &IdMaps::default(),
            lowers: &[],
        };
        expected.compare(&found, holds).unwrap()
    };
    assert_eq!(compare(), Vec::<String>::new());
    shell(
        &source,
        "rm a/.wh.gone; touch a/.wh.other b/.wh.new; touch -r b/new a",
    );
    let told = compare();
    let told: Vec<_> = told.iter().filter(|line| !line.contains("mtime")).collect();
    assert_eq!(told, ["+/a/.wh.other", "+/b/.wh.new", "-/a/gone"]);
}
