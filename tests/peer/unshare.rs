//! `strata unshare` and `--unshare`, as a user whom the administrator has given subordinate IDs: a store that needs no
//! privileges, with files of several owners, which other people's tools use in the same name space.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

/// The user whom every system has.
const NOBODY: u32 = 65_534;

/// A home of that user, and programs that it may run.
struct User {
    scratch: Scratch,
    id: u32,
}

impl User {
    /// The user with this ID; `subordinate` is what `/etc/subuid` and `/etc/subgid` say.
    fn new(id: u32, subordinate: &str) -> Self {
        tool::require_root();
        let scratch = Scratch::new("unshare");
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(scratch.path(), everybody).unwrap();
        scratch.program(env!("CARGO_BIN_EXE_strata"), "strata");
        scratch.program(tool::find("containers-storage-newest"), "newest");
        std::fs::write(scratch.path().join("subordinate"), subordinate).unwrap();
        chown(scratch.dir("home"), Some(id), Some(id)).unwrap();
        scratch.dir("dev");
        Self { scratch, id }
    }

    /// Runs a script as the user; `$S` is Strata, `$N` the peer, both with roots of a store.
    fn run(&self, script: &str) -> Ran {
        // The system's own files stay as they are: these lie over them for this process alone. The device of FUSE is
        // everybody's on a Debian with udev, but not in each container.
        const AS_USER: &str = "set -e\n\
             mount --make-rprivate /\n\
             mount --bind \"$1/subordinate\" /etc/subuid\n\
             mount --bind \"$1/subordinate\" /etc/subgid\n\
             mount -t tmpfs dev \"$1/dev\"\n\
             mknod -m 666 \"$1/dev/fuse\" c 10 229\n\
             [ ! -e /dev/fuse ] || mount --bind \"$1/dev/fuse\" /dev/fuse\n\
             cd \"$1/home\"\n\
             exec timeout -k 1 60 setpriv --reuid \"$2\" --regid \"$2\" --clear-groups \
             env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=\"$1/home\" S=\"$1/strata -g g -R r -s $4\" \
             N=\"$1/newest -g $1/home/g -R $1/home/r -s $4\" STRATA=\"$1/strata\" sh -c \"$3\"";
        Tool::new("unshare")
            .args(["-m", "sh", "-c", AS_USER, "sh"])
            .arg(self.scratch.path())
            .arg(self.id.to_string())
            .arg(script)
            .arg("overlay")
            .output()
    }

    /// What a script says that must succeed.
    fn said(&self, script: &str) -> String {
        let ran = self.run(script);
        assert!(ran.code == 0, "{ran}");
        ran.text()
    }
}

#[test]
fn a_user_becomes_root_of_a_name_space_with_its_subordinate_ids() {
    let user = User::new(NOBODY, "nobody:100000:1000\nnobody:300000:2000\n");
    let map = user.said("$STRATA unshare cat /proc/self/uid_map /proc/self/gid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    let half = [
        "0", "65534", "1", "1", "100000", "1000", "1001", "300000", "2000",
    ];
    assert_eq!(words, [half, half].concat());
    let variables = user.said("$STRATA unshare env");
    for variable in [
        "_CONTAINERS_USERNS_CONFIGURED=done",
        "_CONTAINERS_ROOTLESS_UID=65534",
        "_CONTAINERS_ROOTLESS_GID=65534",
        "BUILDAH_ISOLATION=rootless",
    ] {
        assert!(
            variables.lines().any(|line| line == variable),
            "{variables}"
        );
    }
    // Flags after the command are the command's; so is the exit code; without a command there is a shell.
    assert_eq!(user.said("$STRATA unshare echo -U -x"), "-U -x");
    assert_eq!(user.run("$STRATA unshare sh -c 'exit 7'").code, 7);
    assert_eq!(
        user.said("echo 'id -u' | SHELL=/bin/sh $STRATA unshare"),
        "0"
    );
    let ran = user.run("$STRATA unshare no-such-program");
    assert_eq!((ran.code, &*ran.text()), (1, ""));
    assert_eq!(
        ran.stderr,
        "run no-such-program: no such file or directory\n"
    );
    // Files may have any of the owners.
    user.said("$STRATA unshare sh -c 'touch f && chown 5:1002 f'");
    let stat = std::fs::metadata(user.scratch.path().join("home/f")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (100_004, 300_001));
    // Who is inside stays there.
    let same = user.said(
        "$STRATA unshare sh -c 'readlink /proc/self/ns/user; $STRATA unshare readlink /proc/self/ns/user'",
    );
    let (one, two) = same.split_once('\n').unwrap();
    assert_eq!(one, two);
    // And has the user's store, not the machine's, as the peer has.
    std::fs::write(user.scratch.path().join("empty.conf"), "").unwrap();
    let config = user.said(
        "export CONTAINERS_STORAGE_CONF=../empty.conf; $STRATA config; $STRATA -U config; \
         $STRATA unshare $STRATA config; $STRATA unshare ../newest config",
    );
    let configs: Vec<&str> = config.lines().collect();
    assert!(
        configs[0].contains("/home/.local/share/containers/storage"),
        "{config}"
    );
    assert_eq!(configs, vec![configs[0]; 4]);
}

#[test]
fn a_store_of_a_user_has_layers_with_files_of_several_owners() {
    let user = User::new(NOBODY, "nobody:100000:65536\n");
    let tar = Layer::new().dir("d").file("d/one", "one\n").tar();
    std::fs::write(user.scratch.path().join("base.tar"), tar).unwrap();
    user.said("$S -U import-layer -f ../base.tar -n base");
    user.said("$S -U create-layer -n top base");
    // A mount lives in the name space of whoever made it.
    let said = user.said(
        "$STRATA unshare sh -ec 'M=$($S mount top); cat $M/d/one; chown 7 $M/d/one; rm -r $M/d; \
         echo two > $M/two; chown 9 $M/two; $S unmount top; $S diff -u top | tar -t; $N changes top; \
         $N check -q'",
    );
    assert!(said.starts_with("one\n"), "{said}");
    for expected in [".wh.d", "two", "Add \"/two\"", "Delete \"/d\""] {
        assert!(said.contains(expected), "{said}");
    }
    let layers = user.said("$S -U layers -q; $STRATA unshare $N layers -q");
    let layers: Vec<&str> = layers.lines().collect();
    assert!(
        layers.len() == 4 && layers[..2] == layers[2..],
        "{layers:?}"
    );
    let found = user.said("$STRATA unshare find g/overlay -name two -printf '%U\\n'");
    assert_eq!(found, "9");
    // The same by the peer, which finds the marks that a user may set.
    let size = user.said("$STRATA unshare sh -c '$N diff -u top | tar -tv --numeric-owner'");
    assert!(size.contains("9/") && size.contains(".wh.d"), "{size}");
}

/// Where a user's kernel mounts no overlays, fuse-overlayfs does.
#[test]
fn a_store_of_a_user_is_mounted_by_a_program() {
    tool::find("fuse-overlayfs");
    let user = User::new(NOBODY, "nobody:100000:65536\n");
    let base = Layer::new().dir("d").file("d/one", "one\n").dir("e");
    let base = base.file("e/old", "old\n").file("e/kept", "kept\n");
    let upper = Layer::new().whiteout("e/old").dir("d");
    let upper = upper.file("d/.wh..wh..opq", "").file("d/two", "two\n");
    for (name, layer) in [("base.tar", base), ("upper.tar", upper)] {
        std::fs::write(user.scratch.path().join(name), layer.tar()).unwrap();
    }
    const WITH_PROGRAM: &str = "set -e; P='--storage-opt overlay.mount_program=/usr/bin/fuse-overlayfs'; \
                                export S=\"$S $P\" N=\"$N $P\"; ";
    let said = |script: &str| user.said(&format!("{WITH_PROGRAM}{script}"));
    // Layers of both, in one home; and a container's layer on those of either.
    let two = ["$S", "$N"];
    for (name, maker) in ["ours", "theirs"].into_iter().zip(two) {
        said(&format!(
            "$STRATA unshare sh -ec '{maker} import-layer -f ../base.tar -n {name}-base; \
             {maker} import-layer -f ../upper.tar -n {name} {name}-base; $S create-layer -n {name}-top {name}'"
        ));
        let seen = said(&format!(
            "$STRATA unshare sh -ec 'M=$($S mount {name}-top); stat -f -c %T $M; cd $M; find . -type f | sort; \
             echo more >> e/kept; rm -r d; echo new > new; chown 9:9 new; cd; $S unmount {name}-top; find $M'"
        ));
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen[..3], ["fuseblk", "./d/two", "./e/kept"], "{name}");
        assert_eq!(seen.len(), 5, "nothing stays mounted: {seen:?}");
        for reader in two {
            let listed = said(&format!(
                "$STRATA unshare sh -ec '{reader} diff -u {name}-top | tar -t --show-transformed-names; \
                 {reader} diff -u {name}-top | tar -x -O e/kept; {reader} diff -u {name}-top | \
                 tar -tv --numeric-owner new'"
            ));
            let mut names: Vec<_> = listed.lines().take_while(|line| *line != "kept").collect();
            names.sort_unstable();
            assert_eq!(
                names,
                [".wh.d", "e/", "e/kept", "new"],
                "{reader}: {listed}"
            );
            assert!(listed.contains("kept\nmore"), "{reader}: {listed}");
            assert!(listed.contains(" 9/9 "), "{reader}: {listed}");
            let image = said(&format!("$STRATA unshare {reader} diff -u {name} | tar -t"));
            let image: Vec<&str> = image.lines().collect();
            let expected = ["e/.wh.old", "d", "d/.wh..wh..opq", "d/two"];
            assert_eq!(image, expected, "{reader}");
        }
        said(&format!("$STRATA unshare $S delete-layer {name}-top"));
    }
    let left = said(
        "$S -U layers -q; ls g/overlay | grep -cx '.\\{64\\}'; cat g/overlay/.has-mount-program",
    );
    let left: Vec<&str> = left.lines().collect();
    assert_eq!(left[4..], ["4", "true"], "{left:?}");
    // What either has written is whole, as both see it.
    said("$STRATA unshare sh -ec '$S check; $N check -q'");
}

/// A release of the peer enters one name space from within the other until the kernel has none left.
#[test]
fn without_subordinate_ids_there_is_ones_own_and_a_hint() {
    for id in [0, NOBODY] {
        let user = User::new(id, "");
        let ran = user.run("$STRATA unshare cat /proc/self/uid_map");
        assert_eq!(ran.code, 0, "{ran}");
        let words = ran.text();
        let words: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(words, ["0", &*id.to_string(), "1"]);
        assert!(
            ran.stderr
                .contains("hint: give the user ranges in /etc/subuid"),
            "{ran}"
        );
        assert_eq!(user.said("$STRATA unshare id -u"), "0");
        assert_eq!(
            user.said("$S -U create-layer -i one && $S -U layers -q"),
            "one\none"
        );
    }
}
