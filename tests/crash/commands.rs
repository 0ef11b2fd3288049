//! Every command: what each that changes a store is tried with, and which change none.

/// A command and what comes before and after it. Words in capitals stand for what [`super::scene`] has.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub before: &'static [&'static str],
    pub command: &'static str,
    /// What takes down again what a repeated command may have done twice.
    pub closing: &'static [&'static str],
    /// What a command says that finds its work done.
    pub excuse: Option<&'static str>,
    /// It is done as a whole or not at all.
    pub is_atomic: bool,
    /// Killed, it may leave a part of its work, which it takes up when it is given again; an error leaves nothing.
    pub may_leave_part: bool,
    /// Errors may make it go another way to the same end.
    pub has_other_way: bool,
    /// It changes a layer in place; if it is killed the layer is taken away, as it is by the peers.
    pub may_lose: bool,
    /// What is killed in the middle may leave the layer of a container that is not there, as with the peers.
    pub may_leave_layer: bool,
    /// How it finds the store.
    pub start: Start,
    /// Not every driver can.
    pub is_of_overlay: bool,
}

/// What a store is like before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Whole,
    /// There is none yet.
    Empty,
    /// Something was killed before, and has left garbage.
    Garbage,
    /// This file below its root is lost, which the peers complain of too.
    Without(&'static str),
}

const IN_USE: Option<&str> = Some("already in use");
const GONE: Option<&str> = Some("identifier is not");
const UNKNOWN: Option<&str> = Some("layer not known");
const BASE: &[&str] = &[
    "pull -q -n base:1 LAYOUT",
    "create-container -i NEW -n two base:1",
    "copy VALUE two:/copied",
];

/// Two images with a file in common.
const TWINS: &[&str] = &[
    "import-layer -i NEW --readonly -f TWIN TOP",
    "import-layer -i PAIR --readonly -f TWIN TOP",
    "create-image -n one NEW",
    "create-image -n two PAIR",
];

const fn case(name: &'static str, excuse: Option<&'static str>, command: &'static str) -> Case {
    Case {
        name,
        before: &[],
        command,
        closing: &[],
        excuse,
        is_atomic: true,
        may_leave_part: false,
        has_other_way: false,
        may_lose: false,
        may_leave_layer: false,
        start: Start::Whole,
        is_of_overlay: false,
    }
}

/// One that is not named apart, and may be given twice.
const fn again(command: &'static str) -> Case {
    case(command, None, command)
}

impl Case {
    const fn after(self, before: &'static [&'static str]) -> Self {
        Self { before, ..self }
    }

    const fn in_parts(self) -> Self {
        Self {
            is_atomic: false,
            ..self
        }
    }

    const fn mounts(self) -> Self {
        Self {
            closing: &["unmount --force cont"],
            is_atomic: false,
            ..self
        }
    }

    /// It leaves something else mounted.
    const fn closed_by(self, closing: &'static [&'static str]) -> Self {
        Self {
            closing,
            is_atomic: false,
            ..self
        }
    }

    const fn from(self, start: Start) -> Self {
        Self { start, ..self }
    }

    const fn may_leave_part(self) -> Self {
        Self {
            may_leave_part: true,
            ..self
        }
    }

    const fn may_leave_layer(self) -> Self {
        Self {
            may_leave_layer: true,
            ..self
        }
    }

    const fn may_lose(self) -> Self {
        Self {
            may_lose: true,
            is_atomic: false,
            ..self
        }
    }

    const fn has_other_way(self) -> Self {
        Self {
            has_other_way: true,
            is_atomic: false,
            ..self
        }
    }
}

/// What many threads do at once: how far each is at a call differs from run to run.
pub const WITH_THREADS: &[Case] = &[
    case(
        "import-layer, many files",
        IN_USE,
        "import-layer -i NEW -f MANY MIDDLE",
    ),
    case("applydiff, many files", UNKNOWN, "applydiff -f MANY SPARE").may_lose(),
];

/// Those that change a store, or write a file beside it.
pub const ALL: &[Case] = &[
    case("create-layer", IN_USE, "create-layer -i NEW -n named TOP"),
    case("create-layer, the first", IN_USE, "create-layer -i NEW").from(Start::Empty),
    case(
        "create-layer, mapped",
        IN_USE,
        "create-layer -i NEW --uidmap 0:100000:1000 --gidmap 0:100000:1000 TOP",
    )
    .has_other_way(),
    case(
        "create-storage-layer",
        IN_USE,
        "create-storage-layer -i NEW TOP",
    ),
    case(
        "import-layer",
        IN_USE,
        "import-layer -i NEW -f ARCHIVE MIDDLE",
    ),
    case(
        "import-layer, read-only",
        IN_USE,
        "import-layer -i NEW --readonly -f ARCHIVE MIDDLE",
    ),
    case(
        "create-image",
        IN_USE,
        "create-image -i NEW -n fresh -m text TOP",
    ),
    case(
        "create-container",
        IN_USE,
        "create-container -i NEW -n fresh image",
    )
    .may_leave_layer(),
    case(
        "create-container, volatile",
        IN_USE,
        "create-container -i NEW -n fresh --volatile image",
    )
    .may_leave_layer(),
    case(
        "create-container, mapped",
        IN_USE,
        "create-container -i NEW -n fresh --uidmap 0:100000:1000 --gidmap 0:100000:1000 image",
    )
    .has_other_way()
    .may_leave_layer(),
    again("add-names -n more IMAGE"),
    again("add-names -n more SPARE"),
    again("add-names -n more CONTAINER"),
    again("set-names -n only IMAGE"),
    again("remove-names -n image IMAGE"),
    again("set-metadata -m text CONTAINER"),
    again("set-metadata -m text IMAGE"),
    again("set-layer-data -f VALUE TOP key"),
    again("set-layer-data -f LONGER SPARE key").after(&["set-layer-data -f VALUE SPARE key"]),
    again("set-image-data -f VALUE IMAGE fresh"),
    again("set-image-data -f LONGER IMAGE key"),
    again("set-container-data -f VALUE CONTAINER fresh"),
    again("set-container-data -f LONGER CONTAINER key"),
    // To know how large it is, it looks into its folders, which it makes, as peers do.
    again("container CONTAINER"),
    again("get-container-dir CONTAINER"),
    again("get-container-run-dir CONTAINER"),
    again("get-image-dir IMAGE"),
    again("get-image-run-dir IMAGE"),
    case("delete-layer", GONE, "delete-layer SPARE"),
    case("delete-container", GONE, "delete-container CONTAINER").may_leave_layer(),
    case("delete-image", GONE, "delete-image OTHER"),
    case("delete, a container", UNKNOWN, "delete CONTAINER").may_leave_layer(),
    case("delete, an image", UNKNOWN, "delete OTHER"),
    case("delete, a layer", UNKNOWN, "delete SPARE"),
    case("delete-image, with layers", GONE, "delete-image IMAGE")
        .after(&["delete-container CONTAINER", "delete-image OTHER"])
        .in_parts(),
    case("applydiff", UNKNOWN, "applydiff -f FIRST SPARE").may_lose(),
    Case {
        is_of_overlay: true,
        ..case(
            "applydiff-using-staging-dir",
            None,
            "applydiff-using-staging-dir SPARE FOLDER",
        )
        .may_lose()
    },
    again("mount cont").mounts(),
    case("mount, a second time", None, "mount cont")
        .after(&["mount cont"])
        .mounts(),
    case("mount, a layer", None, "mount SPARE").closed_by(&["unmount --force SPARE"]),
    case("mount, an image", None, "mount --read-only image").closed_by(&["unmount --force image"]),
    again("unmount cont").after(&["mount cont"]).mounts(),
    again("unmount --force cont")
        .after(&["mount cont"])
        .mounts(),
    case("unmount, an image", None, "unmount image")
        .after(&["mount --read-only image"])
        .closed_by(&["unmount --force image"]),
    again("shutdown --force").after(&["mount cont"]).mounts(),
    again("copy VALUE cont:/copied").mounts(),
    again("copy --chown 5:6 VALUE cont:/copied").mounts(),
    again("copy cont:/data/kept PLACE/out").mounts(),
    again("pull -q -n pulled:1 LAYOUT").in_parts(),
    case("pull, what is there", None, "pull -q -n more:1 LAYOUT")
        .after(&["pull -q -n base:1 LAYOUT"])
        .in_parts(),
    again("commit --timestamp 1700000000 two web:1")
        .after(BASE)
        .may_leave_part(),
    again("commit --squash --timestamp 1700000000 two web:1")
        .after(BASE)
        .may_leave_part(),
    again("push -q --push-lanes 1 base:1 oci:PLACE/pushed:one").after(BASE),
    again("import -f BACKUP").after(&["wipe"]).in_parts(),
    again("export -f PLACE/out"),
    again("diff -u -f PLACE/out TOP"),
    again("get-layer-data -f PLACE/out SPARE key").after(&["set-layer-data -f VALUE SPARE key"]),
    again("get-image-data -f PLACE/out IMAGE key"),
    again("get-container-data -f PLACE/out CONTAINER key"),
    again("dedup").after(TWINS),
    again("wipe").in_parts(),
    again("check -r"),
    case("check -r, an unused layer", None, "check -r -m 0s").in_parts(),
    case("check -r, a damaged image", None, "check -r")
        .from(Start::Without("DRIVER-images/OTHER/key"))
        .in_parts(),
    case("check -r, a damaged container", None, "check -r -f")
        .from(Start::Without("DRIVER-containers/CONTAINER/key"))
        .in_parts()
        .may_leave_layer(),
    again("gc").from(Start::Garbage),
];

/// Those that change nothing.
pub const READING: &[&str] = &[
    "layers",
    "layer TOP",
    "storage-layers",
    "images",
    "images-by-digest sha256:IMAGE",
    "image IMAGE",
    "containers",
    "exists TOP",
    "get-names IMAGE",
    "metadata IMAGE",
    "list-layer-data TOP",
    "list-image-data IMAGE",
    "list-container-data CONTAINER",
    "get-image-data-size IMAGE key",
    "get-image-data-digest IMAGE key",
    "get-container-data-size CONTAINER key",
    "get-container-data-digest CONTAINER key",
    "mounted cont",
    "layer-parent-owners TOP",
    "container-parent-owners CONTAINER",
    "changes TOP",
    "diffsize TOP",
    "version",
    "config",
    "du",
    "tree",
    "completion bash",
    "man",
    "help",
];

/// Those that are no single change of a store: the plugin is killed at points of its own, what `unshare` runs is a command of
/// its own, `uninstall-check` asks a cluster, and `status` tries what the kernel can, away from the store.
pub const OTHER: &[&str] = &["node", "unshare", "uninstall-check", "status"];
