//! The table of commands: one definition of every name, flag and operand.
//!
//! The parser of the peer's grammar, the usage texts, and (as clap commands) completion, the man
//! page and Strata's own commands are all made from it.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// One value; the last one counts.
    Value,
    /// One value each time, all of which count.
    Values,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, by which the program asks for it.
    pub name: &'static str,
    /// More long names.
    pub aliases: &'static [&'static str],
    /// Its letter.
    pub letter: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// The value when it is not given, for the usage text.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Whose grammar a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// The peer's: flags end at the first argument, usage errors are the peer's texts.
    Peer,
    /// That of clap: flags anywhere.
    Own,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Operands for the usage text.
    pub operands: &'static str,
    /// Fewest operands.
    pub least: usize,
    /// Most operands.
    pub most: usize,
    /// What it does.
    pub summary: &'static str,
    /// Its flags, in groups that commands share.
    pub flags: &'static [&'static [Flag]],
    /// Whose grammar.
    pub grammar: Grammar,
}

/// Any number of operands.
const MANY: usize = usize::MAX;

const fn switch(name: &'static str, letter: Option<char>, help: &'static str) -> Flag {
    Flag {
        name,
        aliases: &[],
        letter,
        takes: Takes::Nothing,
        default: "",
        help,
    }
}

const fn value(name: &'static str, letter: Option<char>, help: &'static str) -> Flag {
    Flag {
        name,
        aliases: &[],
        letter,
        takes: Takes::Value,
        default: "",
        help,
    }
}

const fn values(name: &'static str, letter: Option<char>, help: &'static str) -> Flag {
    Flag {
        name,
        aliases: &[],
        letter,
        takes: Takes::Values,
        default: "[]",
        help,
    }
}

/// Flags that every command has, before and after its name.
pub const GLOBAL: &[Flag] = &[
    switch("debug", Some('D'), "Print debugging information"),
    value("graph", Some('g'), "Root of the storage tree"),
    value("image-store", None, "Root of the separate image store"),
    value("run", Some('R'), "Root of the runtime state tree"),
    value(
        "storage-driver",
        Some('s'),
        "Storage driver to use ($STORAGE_DRIVER)",
    ),
    values(
        "storage-opt",
        None,
        "Set storage driver options ($STORAGE_OPTS)",
    ),
    switch(
        "transient-store",
        None,
        "Keep all containers until the next boot only",
    ),
    switch(
        "unshare",
        Some('U'),
        "Run in a user namespace (default false)",
    ),
];

const JSON: &[Flag] = &[switch("json", Some('j'), "Print JSON")];
const ID_MAPS: &[Flag] = &[
    value("gidmap", None, "GID map (container:host:size[:...])"),
    switch("hostgidmap", None, "Use the host's GIDs"),
    switch("hostuidmap", None, "Use the host's UIDs"),
    value(
        "subgidmap",
        None,
        "GID map from the subordinate IDs of a group",
    ),
    value(
        "subuidmap",
        None,
        "UID map from the subordinate IDs of a user",
    ),
    value("uidmap", None, "UID map (container:host:size[:...])"),
];
const METADATA: &[Flag] = &[
    value("metadata", Some('m'), "Metadata"),
    value("metadata-file", Some('f'), "File with the metadata"),
];
const NEW_LAYER: &[Flag] = &[
    value("id", Some('i'), "Layer ID"),
    value("label", Some('l'), "Mount label"),
    values("name", Some('n'), "Layer name"),
    switch("readonly", Some('r'), "Mark as read-only"),
];
const NEW_STORAGE_LAYER: &[Flag] = &[
    value("id", Some('i'), "Layer ID"),
    value("label", Some('l'), "Mount label"),
    switch("readonly", Some('r'), "Mark as read-only"),
];
const NEW_IMAGE: &[Flag] = &[
    value("digest", Some('d'), "Image digest"),
    value("id", Some('i'), "Image ID"),
    values("name", Some('n'), "Image name"),
];
const NEW_CONTAINER: &[Flag] = &[
    value("id", Some('i'), "Container ID"),
    values("name", Some('n'), "Container name"),
    switch("volatile", None, "Mark as volatile"),
];
const NAMES: &[Flag] = &[values(
    "name",
    Some('n'),
    "Name; may be given several times",
)];
const READ_FILE: &[Flag] = &[value(
    "file",
    Some('f'),
    "Read from a file instead of stdin",
)];
const WRITE_FILE: &[Flag] = &[value(
    "file",
    Some('f'),
    "Write to a file instead of stdout",
)];
const QUIET: &[Flag] = &[switch("quiet", Some('q'), "Print IDs only")];
const EXISTS: &[Flag] = &[
    switch(
        "container",
        Some('c'),
        "Only succeed if the match is a container",
    ),
    switch("image", Some('i'), "Only succeed if the match is an image"),
    switch("layer", Some('l'), "Only succeed if the match is a layer"),
    switch("quiet", Some('q'), "Print nothing"),
];
const LAYERS: &[Flag] = &[
    switch("quick", Some('q'), "Print IDs only"),
    switch("tree", Some('t'), "Draw a tree"),
];
const DIFF: &[Flag] = &[
    Flag {
        name: "bzip2",
        aliases: &["bz2"],
        letter: Some('b'),
        takes: Takes::Nothing,
        default: "",
        help: "Compress with bzip2 (not supported)",
    },
    switch("gzip", Some('c'), "Compress with gzip"),
    switch("uncompressed", Some('u'), "Don't compress"),
    switch("xz", Some('x'), "Compress with xz (not supported)"),
];
const MOUNT: &[Flag] = &[
    value("label", Some('l'), "Mount label"),
    value("opt", Some('o'), "Mount options (ignored)"),
    Flag {
        name: "read-only",
        aliases: &["ro"],
        letter: Some('r'),
        takes: Takes::Nothing,
        default: "",
        help: "Mount an image, read-only",
    },
];
const DELETE_IMAGE: &[Flag] = &[switch("test", Some('t'), "Only say what would be removed")];
const UNMOUNT: &[Flag] = &[switch(
    "force",
    Some('f'),
    "Unmount whatever the count says",
)];
const SHUTDOWN: &[Flag] = &[switch("force", Some('f'), "Unmount mounted layers first")];
const CHECK: &[Flag] = &[
    switch(
        "force",
        Some('f'),
        "With --repair: remove damaged containers",
    ),
    Flag {
        name: "max",
        aliases: &[],
        letter: Some('m'),
        takes: Takes::Value,
        default: "24h",
        help: "How long a layer may be unused",
    },
    switch("quick", Some('q'), "Compare no files with their headers"),
    switch("repair", Some('r'), "Remove damaged images and layers"),
];
const COPY: &[Flag] = &[value(
    "chown",
    Some('o'),
    "Owner of the copies, as UID[:GID]",
)];
const METADATA_QUIET: &[Flag] = &[switch("quiet", Some('q'), "Omit names and IDs")];
// What bounds a pull, whoever asks for it: the command line or the plugin.
const PULL_LANES: Flag = value(
    "pull-lanes",
    None,
    "Layers that are fetched and unpacked at the same time (default 4)",
);
const PULL_KEEP: Flag = value(
    "pull-keep",
    None,
    "Complete layers of so many bytes outlive a kill of the pull (default 16M)",
);
const MAX_IMAGE_SIZE: Flag = value(
    "max-image-size",
    None,
    "How large the files of an image may be together, as 20G (default 128G)",
);
const MAX_LAYER_SIZE: Flag = value(
    "max-layer-size",
    None,
    "How large a layer may be as it is fetched (default 64G)",
);
const MAX_LAYER_FILES: Flag = value(
    "max-layer-files",
    None,
    "How many files a layer may have (default 10000000)",
);
const PULL: &[Flag] = &[
    value("authfile", None, "File with logins ($REGISTRY_AUTH_FILE)"),
    value(
        "secret-file",
        None,
        "Login in the form of a Kubernetes pull secret (.dockerconfigjson)",
    ),
    values(
        "name",
        Some('n'),
        "Name for the image instead of its own; may be given several times",
    ),
    value(
        "platform",
        None,
        "Platform as OS/ARCH[/VARIANT] (default: this machine's)",
    ),
    Flag {
        name: "policy",
        aliases: &[],
        letter: None,
        takes: Takes::OneOf(&["always", "missing", "never"]),
        default: "",
        help: "When to ask the source (default: always; layers that are present are not fetched)",
    },
    value(
        "cert-dir",
        None,
        "Folder whose *.crt are authorities for the registry (default /etc/containers/certs.d/HOST)",
    ),
    switch(
        "plain-http",
        None,
        "Talk plain http to this registry (to loopback it always may)",
    ),
    switch("quiet", Some('q'), "Print nothing but the image ID"),
    PULL_LANES,
    PULL_KEEP,
    MAX_IMAGE_SIZE,
    MAX_LAYER_SIZE,
    MAX_LAYER_FILES,
];
const COMMIT: &[Flag] = &[
    value("author", Some('a'), "Author of the image"),
    values(
        "change",
        Some('c'),
        "Change of the image, as 'CMD [\"/bin/web\"]', 'ENV A=1', 'USER web'; may be given several times",
    ),
    value("message", Some('m'), "What the history says of it"),
    value(
        "timestamp",
        None,
        "When it was made, in seconds since 1970; its new files get this time too",
    ),
    value(
        "source-date-epoch",
        None,
        "When it was made, in seconds since 1970 ($SOURCE_DATE_EPOCH)",
    ),
    switch(
        "rewrite-timestamp",
        None,
        "Give new files that are younger than --source-date-epoch that time",
    ),
    value("iidfile", None, "Write the image ID to this file"),
];
const PUSH: &[Flag] = &[
    value("authfile", None, "File with logins ($REGISTRY_AUTH_FILE)"),
    value(
        "secret-file",
        None,
        "Login in the form of a Kubernetes pull secret (.dockerconfigjson)",
    ),
    value(
        "cert-dir",
        None,
        "Folder whose *.crt are authorities for the registry (default /etc/containers/certs.d/HOST)",
    ),
    Flag {
        name: "compression",
        aliases: &[],
        letter: None,
        takes: Takes::OneOf(&["gzip", "zstd", "none"]),
        default: "",
        help: "How layers are compressed that the destination does not have (default: gzip)",
    },
    value(
        "digestfile",
        None,
        "Write the digest of the pushed manifest to this file",
    ),
    switch(
        "plain-http",
        None,
        "Talk plain http to this registry (to loopback it always may)",
    ),
    value(
        "push-lanes",
        None,
        "Layers that are compressed and sent at the same time (default 2)",
    ),
    switch(
        "quiet",
        Some('q'),
        "Print nothing but the digest of the manifest",
    ),
];
const NODE: &[Flag] = &[
    value("node-name", None, "Name of this node in Kubernetes"),
    value(
        "kubelet-dir",
        None,
        "The kubelet's root directory (default /var/lib/kubelet)",
    ),
    value(
        "http",
        None,
        "Address for health, readiness and metrics, as 127.0.0.1:9808; :9808 for all addresses",
    ),
    PULL_LANES,
    PULL_KEEP,
    MAX_IMAGE_SIZE,
    MAX_LAYER_SIZE,
    MAX_LAYER_FILES,
    value(
        "shutdown-file",
        None,
        "File whose presence at the end says that the node goes down: inline volumes are saved",
    ),
    values(
        "insecure-registry",
        None,
        "Host (and port) of a registry that is talked to in plain http; may be given several times",
    ),
    values(
        "registry-authorities",
        None,
        "File with certificate authorities for registries, in PEM form, beside those of the system",
    ),
    value(
        "authfile",
        None,
        "File with logins for volumes whose pull secret has none; every pod may then use them",
    ),
    value("driver-name", None, "CSI driver name"),
    value(
        "log-level",
        None,
        "error, warn, info, debug or trace, also per module",
    ),
    Flag {
        name: "log-format",
        aliases: &[],
        letter: None,
        takes: Takes::OneOf(&["text", "json"]),
        default: "",
        help: "Form of the log lines",
    },
];

const UNINSTALL_CHECK: &[Flag] = &[
    value(
        "driver-name",
        None,
        "CSI driver name (default csi.strata.dev)",
    ),
    value(
        "release",
        None,
        "Name of the Helm release, for the advice how to go on",
    ),
    value("namespace", None, "Namespace of the release"),
    value("revision", None, "Revision of the release"),
];

/// One row of the peer's commands.
const fn peer(
    name: &'static str,
    aliases: &'static [&'static str],
    operands: &'static str,
    (least, most): (usize, usize),
    summary: &'static str,
    flags: &'static [&'static [Flag]],
) -> Definition {
    Definition {
        name,
        aliases,
        operands,
        least,
        most,
        summary,
        flags,
        grammar: Grammar::Peer,
    }
}

/// One row of Strata's own commands.
const fn own(
    name: &'static str,
    operands: &'static str,
    (least, most): (usize, usize),
    summary: &'static str,
    flags: &'static [&'static [Flag]],
) -> Definition {
    let grammar = Grammar::Own;
    Definition {
        name,
        aliases: &[],
        operands,
        least,
        most,
        summary,
        flags,
        grammar,
    }
}

/// All commands, in the order of the usage text.
pub const COMMANDS: &[Definition] = &[
    peer(
        "config",
        &[],
        "[file]",
        (0, 1),
        "Print the effective configuration as JSON",
        &[JSON],
    ),
    peer(
        "container",
        &[],
        "containerNameOrID [...]",
        (1, MANY),
        "Examine a container",
        &[JSON],
    ),
    peer(
        "list-container-data",
        &["listcontainerdata"],
        "containerNameOrID",
        (1, 1),
        "List data items of a container",
        &[JSON],
    ),
    peer(
        "get-container-data",
        &["getcontainerdata"],
        "containerNameOrID dataName",
        (2, 2),
        "Get a data item of a container",
        &[WRITE_FILE],
    ),
    peer(
        "get-container-data-size",
        &["getcontainerdatasize"],
        "containerNameOrID dataName",
        (2, 2),
        "Get the size of a data item of a container",
        &[JSON],
    ),
    peer(
        "get-container-data-digest",
        &["getcontainerdatadigest"],
        "containerNameOrID dataName",
        (2, 2),
        "Get the digest of a data item of a container",
        &[JSON],
    ),
    peer(
        "set-container-data",
        &["setcontainerdata"],
        "containerNameOrID dataName",
        (2, 2),
        "Set a data item of a container",
        &[READ_FILE],
    ),
    peer(
        "get-container-dir",
        &["getcontainerdir"],
        "containerNameOrID",
        (1, 1),
        "Find the data directory of a container",
        &[JSON],
    ),
    peer(
        "get-container-run-dir",
        &["getcontainerrundir"],
        "containerNameOrID",
        (1, 1),
        "Find the runtime directory of a container",
        &[JSON],
    ),
    peer(
        "container-parent-owners",
        &[],
        "containerNameOrID [...]",
        (1, MANY),
        "List owners above a mounted container that its ID mapping lacks",
        &[JSON],
    ),
    peer("containers", &[], "", (0, 0), "List containers", &[JSON]),
    peer(
        "create-layer",
        &["createlayer"],
        "[parentLayerNameOrID]",
        (0, 1),
        "Create a new layer",
        &[NEW_LAYER, ID_MAPS, JSON],
    ),
    peer(
        "import-layer",
        &["importlayer"],
        "[parentLayerNameOrID]",
        (0, 1),
        "Create a new layer from a tar archive",
        &[NEW_LAYER, ID_MAPS, READ_FILE, JSON],
    ),
    peer(
        "create-image",
        &["createimage"],
        "[topLayerNameOrID]",
        (0, 1),
        "Create a new image over a layer",
        &[NEW_IMAGE, METADATA, JSON],
    ),
    peer(
        "create-container",
        &["createcontainer"],
        "parentImageNameOrID",
        (1, 1),
        "Create a new container from an image",
        &[NEW_CONTAINER, METADATA, ID_MAPS, JSON],
    ),
    peer(
        "delete",
        &[],
        "LayerOrImageOrContainerNameOrID [...]",
        (1, MANY),
        "Delete a layer, image or container, without safety checks",
        &[JSON],
    ),
    peer(
        "delete-layer",
        &["deletelayer"],
        "layerNameOrID [...]",
        (1, MANY),
        "Delete a layer, with safety checks",
        &[JSON],
    ),
    peer(
        "delete-image",
        &["deleteimage"],
        "imageNameOrID [...]",
        (1, MANY),
        "Delete an image, with safety checks",
        &[DELETE_IMAGE, JSON],
    ),
    peer(
        "delete-container",
        &["deletecontainer"],
        "containerNameOrID [...]",
        (1, MANY),
        "Delete a container, with safety checks",
        &[JSON],
    ),
    peer(
        "changes",
        &[],
        "layerNameOrID [referenceLayerNameOrID]",
        (1, 2),
        "List what differs between two layers",
        &[JSON],
    ),
    peer(
        "diffsize",
        &["diff-size"],
        "layerNameOrID [referenceLayerNameOrID]",
        (1, 2),
        "Measure what differs between two layers",
        &[],
    ),
    peer(
        "diff",
        &[],
        "layerNameOrID [referenceLayerNameOrID]",
        (1, 2),
        "Write what differs between two layers as a tar archive",
        &[DIFF, WRITE_FILE],
    ),
    peer(
        "applydiff",
        &["apply-diff"],
        "layerNameOrID",
        (1, 1),
        "Apply a tar archive to a layer",
        &[READ_FILE],
    ),
    peer(
        "exists",
        &[],
        "LayerOrImageOrContainerNameOrID [...]",
        (1, MANY),
        "Check if a layer, image or container exists",
        &[EXISTS, JSON],
    ),
    peer(
        "gc",
        &[],
        "",
        (0, 0),
        "Remove what crashes have left behind",
        &[JSON],
    ),
    peer(
        "check",
        &[],
        "",
        (0, 0),
        "Check that the store is whole, and remove what is damaged",
        &[CHECK, JSON],
    ),
    peer(
        "copy",
        &[],
        "[layerNameOrID:]/path [...] [layerNameOrID:]/path",
        (2, MANY),
        "Copy files and directories into a layer, out of one, or from one to another",
        &[COPY],
    ),
    peer(
        "create-storage-layer",
        &[],
        "[parentLayerID]",
        (0, 1),
        "Create a layer of the driver, without a record",
        &[NEW_STORAGE_LAYER, JSON],
    ),
    peer(
        "image",
        &[],
        "imageNameOrID [...]",
        (1, MANY),
        "Examine an image",
        &[JSON],
    ),
    peer(
        "list-image-data",
        &["listimagedata"],
        "imageNameOrID",
        (1, 1),
        "List data items of an image",
        &[JSON],
    ),
    peer(
        "get-image-data",
        &["getimagedata"],
        "imageNameOrID dataName",
        (2, 2),
        "Get a data item of an image",
        &[WRITE_FILE],
    ),
    peer(
        "get-image-data-size",
        &["getimagedatasize"],
        "imageNameOrID dataName",
        (2, 2),
        "Get the size of a data item of an image",
        &[JSON],
    ),
    peer(
        "get-image-data-digest",
        &["getimagedatadigest"],
        "imageNameOrID dataName",
        (2, 2),
        "Get the digest of a data item of an image",
        &[JSON],
    ),
    peer(
        "set-image-data",
        &["setimagedata"],
        "imageNameOrID dataName",
        (2, 2),
        "Set a data item of an image",
        &[READ_FILE],
    ),
    peer(
        "get-image-dir",
        &["getimagedir"],
        "imageNameOrID",
        (1, 1),
        "Find the data directory of an image",
        &[JSON],
    ),
    peer(
        "get-image-run-dir",
        &["getimagerundir"],
        "imageNameOrID",
        (1, 1),
        "Find the runtime directory of an image",
        &[JSON],
    ),
    peer("images", &[], "", (0, 0), "List images", &[QUIET, JSON]),
    peer(
        "images-by-digest",
        &[],
        "DIGEST",
        (1, 1),
        "List images by digest",
        &[QUIET, JSON],
    ),
    peer(
        "layer",
        &[],
        "layerNameOrID [...]",
        (1, MANY),
        "Examine a layer",
        &[JSON],
    ),
    peer(
        "layer-parent-owners",
        &[],
        "layerNameOrID [...]",
        (1, MANY),
        "List owners above a mounted layer that its ID mapping lacks",
        &[JSON],
    ),
    peer(
        "list-layer-data",
        &["listlayerdata"],
        "layerNameOrID",
        (1, 1),
        "List data items of a layer",
        &[JSON],
    ),
    peer(
        "get-layer-data",
        &["getlayerdata"],
        "layerNameOrID dataName",
        (2, 2),
        "Get a data item of a layer",
        &[WRITE_FILE],
    ),
    peer(
        "set-layer-data",
        &["setlayerdata"],
        "layerNameOrID dataName",
        (2, 2),
        "Set a data item of a layer",
        &[READ_FILE],
    ),
    peer("layers", &[], "", (0, 0), "List layers", &[LAYERS, JSON]),
    peer(
        "storage-layers",
        &[],
        "",
        (0, 0),
        "List the layers that the driver has",
        &[JSON],
    ),
    peer(
        "metadata",
        &[],
        "LayerOrImageOrContainerNameOrID [...]",
        (1, MANY),
        "Print the metadata of a layer, image or container",
        &[METADATA_QUIET, JSON],
    ),
    peer(
        "set-metadata",
        &["setmetadata"],
        "layerOrImageOrContainerNameOrID",
        (1, 1),
        "Set the metadata of a layer, image or container",
        &[METADATA],
    ),
    peer(
        "mount",
        &[],
        "LayerOrContainerNameOrID [...]",
        (1, MANY),
        "Mount a layer or container, or an image read-only",
        &[MOUNT, JSON],
    ),
    peer(
        "unmount",
        &["umount"],
        "LayerOrImageOrContainerNameOrID [...]",
        (1, MANY),
        "Unmount a layer, image or container",
        &[UNMOUNT, JSON],
    ),
    peer(
        "mounted",
        &[],
        "LayerOrContainerNameOrID [...]",
        (1, MANY),
        "Check if a layer or container is mounted",
        &[JSON],
    ),
    peer(
        "get-names",
        &["getnames"],
        "LayerOrImageOrContainerNameOrID",
        (1, 1),
        "Print the names of a layer, image or container",
        &[JSON],
    ),
    peer(
        "add-names",
        &["addnames"],
        "LayerOrImageOrContainerNameOrID",
        (1, MANY),
        "Add names to a layer, image or container",
        &[NAMES, JSON],
    ),
    peer(
        "remove-names",
        &["removenames"],
        "LayerOrImageOrContainerNameOrID",
        (1, MANY),
        "Remove names of a layer, image or container",
        &[NAMES, JSON],
    ),
    peer(
        "set-names",
        &["setnames"],
        "LayerOrImageOrContainerNameOrID",
        (1, MANY),
        "Replace the names of a layer, image or container",
        &[NAMES, JSON],
    ),
    peer(
        "shutdown",
        &[],
        "",
        (0, 0),
        "Shut the store down",
        &[SHUTDOWN, JSON],
    ),
    peer(
        "status",
        &[],
        "",
        (0, 0),
        "Print where the store is and how its driver works",
        &[JSON],
    ),
    peer("version", &[], "", (0, 0), "Print the version", &[JSON]),
    peer(
        "wipe",
        &[],
        "",
        (0, 0),
        "Delete all layers, images and containers",
        &[JSON],
    ),
    own(
        "pull",
        "REFERENCE",
        (1, 1),
        "Bring an image into the store",
        &[PULL, JSON],
    ),
    own(
        "commit",
        "CONTAINER [REFERENCE]",
        (1, 2),
        "Make an image of what a container changed",
        &[COMMIT, JSON],
    ),
    own(
        "push",
        "IMAGE [DESTINATION]",
        (1, 2),
        "Send an image to a registry, oci:DIR[:NAME] or oci-archive:FILE[:NAME]",
        &[PUSH, JSON],
    ),
    own(
        "node",
        "",
        (0, 0),
        "Serve CSI on the socket of $CSI_ENDPOINT",
        &[NODE],
    ),
    own(
        "uninstall-check",
        "",
        (0, 0),
        "Fail, naming them, while pods of the cluster have volumes of the driver",
        &[UNINSTALL_CHECK],
    ),
    own(
        "completion",
        "SHELL",
        (1, 1),
        "Print a completion script: bash, zsh or fish",
        &[],
    ),
    own("man", "", (0, 0), "Print the manual page", &[]),
    own("help", "[command]", (0, 1), "Explain a command", &[]),
];

/// The command of this name or alias.
pub fn find(name: &str) -> Option<&'static Definition> {
    COMMANDS
        .iter()
        .find(|command| command.name == name || command.aliases.contains(&name))
}

impl Flag {
    fn to_clap(self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .aliases(self.aliases)
            .help(self.help);
        let arg = match self.letter {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        let value_name = self
            .name
            .rsplit('-')
            .next()
            .unwrap_or(self.name)
            .to_uppercase();
        match self.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Value => arg.action(ArgAction::Set).value_name(value_name),
            Takes::Values => arg.action(ArgAction::Append).value_name(value_name),
            Takes::OneOf(words) => arg
                .action(ArgAction::Set)
                .value_parser(PossibleValuesParser::new(words)),
        }
    }
}

impl Definition {
    /// Flags of the command and global ones.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        GLOBAL
            .iter()
            .chain(self.flags.iter().flat_map(|group| group.iter()))
    }

    /// The command as clap knows it; global flags are added by [`root`] or by the caller.
    pub fn to_clap(&self) -> Command {
        let mut command = Command::new(self.name)
            .about(self.summary)
            .visible_aliases(self.aliases)
            .args_override_self(true)
            .args(
                self.flags
                    .iter()
                    .flat_map(|group| group.iter())
                    .map(|flag| flag.to_clap()),
            );
        if self.most > 0 {
            command = command.arg(
                Arg::new("operands")
                    .value_name(self.operands.trim_matches(['[', ']']))
                    .num_args(self.least..=self.most)
                    .required(self.least > 0),
            );
        }
        command
    }
}

/// Global flags as clap knows them.
pub fn global_args() -> Vec<Arg> {
    GLOBAL
        .iter()
        .map(|flag| flag.to_clap().global(true))
        .collect()
}

/// The whole command line as clap knows it: for completion and the manual page.
pub fn root() -> Command {
    Command::new("strata")
        .about("Layers, images and containers in a containers/storage store, and CSI volumes")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(global_args())
        .subcommands(COMMANDS.iter().map(Definition::to_clap))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn clap_accepts_the_table() {
        root().debug_assert();
    }

    #[test]
    fn no_name_flag_or_letter_is_there_twice() {
        let mut names = BTreeSet::new();
        for command in COMMANDS {
            for name in command.aliases.iter().chain([&command.name]) {
                assert!(names.insert(*name), "{name}");
            }
            let mut flags = BTreeSet::new();
            for flag in command.all_flags() {
                let letter = flag.letter.map(String::from);
                let long = flag
                    .aliases
                    .iter()
                    .chain([&flag.name])
                    .map(ToString::to_string);
                for name in long.chain(letter) {
                    assert!(
                        flags.insert(name.clone()),
                        "{} has {name} twice",
                        command.name
                    );
                }
            }
        }
    }
}
