//! What a layer holds that came in by no archive is packed to the byte as the newest peer packs it, so that whoever commits
//! it gets one digest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shared::binary;
use crate::support::scratch::{Scratch, unmount_below};
use crate::support::tool::{self, Tool};
use crate::tars::{add_attributes, make_tree};

/// What a container does to its image, in the folder that it sees.
const CHANGES: &str = "
    rm d/f d/fifo; rm -r d/sub; mkdir d/sub; echo new > d/sub/inside; mv d/null d/moved; echo more >> d/empty
    mkdir added; echo 1 > added/1; ln added/1 added/2; ln -s 1 added/3; ln added/3 added/4; mkfifo added/pipe
    mknod added/char c 4 255; mknod added/block b 259 1048575; chmod 7777 added/1; truncate -s 200000 added/sparse
    long=$(printf '%090d' 1); mkdir -p added/$long/$long; echo deep > added/$long/$long/file
    ln added/$long/$long/file added/link-to-deep; ln added/1 added/$long/$long/back
    mkdir added/$(printf '%0160d' 2); echo unsplittable > added/$(printf '%0160d' 3)
    mkdir added/$long/$(printf '%0100d' 4); mkdir added/$long/$(printf '%058d' 5)
    chown 5000000:6 added/$long/$long/back; echo own > added/own; chown 7:3000000000 added/own
    ln -s $(printf '%0101d/' 6 7) added/far; ln -s $(printf '%098d//x' 8) added/slashes; ln -s zü added/ü
    echo x > \"$(printf 'added/\\377\\376')\"; echo x > \"added/$(printf '%095d' 9)ü\"
    touch -d @1700000000.999999999 added/1; touch -d @-5.5 added/own; touch -d @8589934592 added/2
    mkdir added/empty added/sticky; chmod 1777 added/sticky
";

struct Store {
    scratch: Scratch,
    driver: &'static str,
}

impl Store {
    fn tool(&self, program: &Path, arguments: &[&str]) -> Tool {
        Tool::at(program)
            .args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", self.driver])
            .args(arguments)
    }

    fn strata(&self, arguments: &[&str]) -> Tool {
        self.tool(&binary(), arguments)
    }

    /// A layer under the folder that was changed in a mount.
    fn changed(&self, id: &str, parent: &str, change: impl FnOnce(&Path)) {
        let parent = Some(parent).filter(|parent| !parent.is_empty());
        let line = ["create-layer", "-i", id].into_iter().chain(parent);
        self.strata(&line.collect::<Vec<_>>()).ok();
        let place = PathBuf::from(self.strata(&["mount", id]).ok().last_line());
        change(&place);
        self.strata(&["unmount", id]).ok();
    }

    fn assert_equal(&self, what: &[&str]) {
        let peer = tool::find("containers-storage-newest");
        let [ours, theirs] = [binary(), peer].map(|program| {
            let line = [&["diff"], what].concat();
            without_chance(self.tool(&program, &line).ok().stdout)
        });
        let at = ours
            .iter()
            .zip(&theirs)
            .position(|(one, other)| one != other);
        let blocks = at.map(|at| {
            let start = at / BLOCK * BLOCK;
            let text = |archive: &[u8]| {
                let end = archive.len().min(start + BLOCK);
                String::from_utf8_lossy(&archive[start..end]).replace('\0', "")
            };
            (at % BLOCK, text(&ours), text(&theirs))
        });
        assert!(
            ours == theirs,
            "{} {what:?}: {} and {} bytes, at {blocks:?}",
            self.driver,
            ours.len(),
            theirs.len()
        );
    }
}

const BLOCK: usize = 512;

/// The archive without what says nothing. Deletions that are found by comparison have the time of the packing. The kernel
/// makes the marks of deletions names of one inode; the peer leaves the name of the first in the others, though they are
/// no links, so that its bytes depend on what the kernel did.
fn without_chance(mut archive: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        let end = header[..100].iter().position(|byte| *byte == 0);
        let name = String::from_utf8_lossy(&header[..end.unwrap_or(100)]).into_owned();
        let size = String::from_utf8_lossy(&header[124..135]).into_owned();
        let size = usize::from_str_radix(&size, 8).unwrap_or(0);
        if name
            .rsplit('/')
            .next()
            .is_some_and(|last| last.starts_with(".wh."))
        {
            header[136..148].fill(b'0');
            header[148..156].fill(b' ');
            header[157..257].fill(0);
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    archive
}

fn shell(place: &Path, script: &str) {
    let ran = Tool::new("sh").args(["-ec", script]).within(place);
    ran.ok();
}

fn compare(driver: &'static str) {
    tool::require_root();
    let store = Store {
        scratch: Scratch::new("packed"),
        driver,
    };
    store.changed("base", "", |place| {
        make_tree(place, false);
        add_attributes(place);
    });
    store.changed("top", "base", |place| {
        shell(place, CHANGES);
        // Sockets have no place in archives.
        drop(std::os::unix::net::UnixListener::bind(place.join("added/socket")).unwrap());
    });
    store.changed("other", "", |place| {
        fs::write(place.join("file"), "1").unwrap()
    });
    store.strata(&["create-layer", "-i", "nothing", "top"]).ok();
    for what in [
        &["base"][..],
        &["top"],
        &["-u", "top"],
        &["top", "other"],
        &["base", "top"],
        &["nothing"],
        &["nothing", "base"],
    ] {
        store.assert_equal(what);
    }
    unmount_below(store.scratch.path());
}

#[test]
fn differences_nobody_recorded_are_packed_as_the_peer_packs_them_with_overlay() {
    compare("overlay");
}

#[test]
fn differences_nobody_recorded_are_packed_as_the_peer_packs_them_with_vfs() {
    compare("vfs");
}
