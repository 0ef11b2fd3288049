//! Every command that changes a store.

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
    /// Something was killed before, and has left garbage.
    pub has_garbage: bool,
    /// Not every driver can.
    pub is_of_overlay: bool,
}

const IN_USE: Option<&str> = Some("already in use");
const GONE: Option<&str> = Some("identifier is not");
const UNKNOWN: Option<&str> = Some("layer not known");
const BASE: &[&str] = &[
    "pull -q -n base:1 LAYOUT",
    "create-container -i NEW -n two base:1",
    "copy VALUE two:/copied",
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
        has_garbage: false,
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

/// All of them.
pub const ALL: &[Case] = &[
    case("create-layer", IN_USE, "create-layer -i NEW -n named TOP"),
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
    .has_other_way(),
    again("add-names -n more IMAGE"),
    again("add-names -n more SPARE"),
    again("set-names -n only IMAGE"),
    again("remove-names -n image IMAGE"),
    again("set-metadata -m text CONTAINER"),
    again("set-layer-data -f VALUE TOP key"),
    again("set-layer-data -f LONGER SPARE key").after(&["set-layer-data -f VALUE SPARE key"]),
    again("set-image-data -f VALUE IMAGE fresh"),
    again("set-image-data -f LONGER IMAGE key"),
    again("set-container-data -f VALUE CONTAINER fresh"),
    again("set-container-data -f LONGER CONTAINER key"),
    again("get-container-dir CONTAINER"),
    again("get-container-run-dir CONTAINER"),
    again("get-image-dir IMAGE"),
    case("delete-layer", GONE, "delete-layer SPARE"),
    case("delete-container", GONE, "delete-container CONTAINER").may_leave_layer(),
    case("delete-image", GONE, "delete-image OTHER"),
    case("delete", UNKNOWN, "delete CONTAINER").may_leave_layer(),
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
    again("unmount cont").after(&["mount cont"]).mounts(),
    again("unmount --force cont")
        .after(&["mount cont"])
        .mounts(),
    again("shutdown --force").after(&["mount cont"]).mounts(),
    again("copy VALUE cont:/copied").mounts(),
    again("copy --chown 5:6 VALUE cont:/copied").mounts(),
    again("pull -q -n pulled:1 LAYOUT").in_parts(),
    Case {
        may_leave_part: true,
        ..again("commit --timestamp 1700000000 two web:1").after(BASE)
    },
    again("import -f BACKUP").after(&["wipe"]).in_parts(),
    again("export -f OUT"),
    again("diff -u -f OUT TOP"),
    again("get-image-data -f OUT IMAGE key"),
    again("wipe").in_parts(),
    again("check -r"),
    Case {
        has_garbage: true,
        ..again("gc")
    },
];
