//! csi-sanity, the conformance suite of CSI drivers, against the real plugin.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use strata::node::csi::wire;
use wire::controller_client::ControllerClient;
use wire::node_client::NodeClient;

use crate::shared::{Shared, binary};
use crate::support::plugin::{self, Plugin, Settings};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// What the suite leaves out for a driver without an ability, by what is in the names of these specs.
const OPTIONAL: &[(&str, &[&str])] = &[
    (
        "controller CREATE_DELETE_SNAPSHOT",
        &["CreateSnapshot", "DeleteSnapshot", "source snapshot"],
    ),
    ("controller LIST_SNAPSHOTS", &["ListSnapshots"]),
    ("controller GET_SNAPSHOT", &["GetSnapshot"]),
    ("controller CLONE_VOLUME", &["source volume"]),
    (
        "controller MODIFY_VOLUME",
        &["ModifyVolume", "volume attribute class"],
    ),
    ("controller EXPAND_VOLUME", &[" ExpandVolume"]),
    (
        "controller PUBLISH_UNPUBLISH_VOLUME",
        &[
            "ControllerPublishVolume",
            "ControllerUnpublishVolume",
            "volume lifecycle",
        ],
    ),
    ("node EXPAND_VOLUME", &["NodeExpandVolume"]),
    (
        "node STAGE_UNSTAGE_VOLUME",
        &["NodeStageVolume", "NodeUnstageVolume"],
    ),
    ("a group controller", &["GroupController"]),
];

/// Tells whoever runs the tests, even when they pass.
fn report(line: &str) {
    println!("{line}");
    if let Some(path) = std::env::var_os("STRATA_REPORT") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// What the plugin says that it can, in the words of [`OPTIONAL`].
fn advertised(socket: &Path) -> BTreeSet<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let found = runtime.block_on(async {
        let channel = plugin::channel(socket);
        let request = wire::ControllerGetCapabilitiesRequest {};
        let controller = ControllerClient::new(channel.clone())
            .controller_get_capabilities(request)
            .await
            .unwrap()
            .into_inner();
        let request = wire::NodeGetCapabilitiesRequest {};
        let node = NodeClient::new(channel)
            .node_get_capabilities(request)
            .await
            .unwrap()
            .into_inner();
        let mut found = BTreeSet::new();
        for capability in controller.capabilities {
            use wire::controller_service_capability::Type;
            if let Some(Type::Rpc(rpc)) = capability.r#type {
                found.insert(format!("controller {}", rpc.r#type().as_str_name()));
            }
        }
        for capability in node.capabilities {
            use wire::node_service_capability::Type;
            if let Some(Type::Rpc(rpc)) = capability.r#type {
                found.insert(format!("node {}", rpc.r#type().as_str_name()));
            }
        }
        found
    });
    assert!(!found.is_empty());
    found
}

/// How many specs came to which end, and the names of those that were skipped.
#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    /// Switched off in the suite itself.
    pending: usize,
    skipped: Vec<String>,
}

impl Counts {
    fn read(report: &Path) -> Self {
        let suites: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let mut counts = Self::default();
        for suite in suites.as_array().unwrap() {
            for spec in suite["SpecReports"].as_array().unwrap() {
                // The suite's own preparations are no specs.
                if spec["LeafNodeType"] != "It" {
                    continue;
                }
                match spec["State"].as_str().unwrap() {
                    "passed" => counts.passed += 1,
                    "pending" => counts.pending += 1,
                    "skipped" => counts.skipped.push(name(spec)),
                    _ => counts.failed += 1,
                }
            }
        }
        counts
    }
}

fn name(spec: &Value) -> String {
    let groups = spec["ContainerHierarchyTexts"].as_array().unwrap();
    let mut name = String::new();
    for part in groups.iter().chain([&spec["LeafNodeText"]]) {
        name.push(' ');
        name.push_str(part.as_str().unwrap());
    }
    name
}

/// Whether the plugin lacks an ability that the spec is about.
fn is_explained(spec: &str, advertised: &BTreeSet<String>) -> bool {
    OPTIONAL.iter().any(|(ability, parts)| {
        !advertised.contains(*ability) && parts.iter().any(|part| spec.contains(part))
    })
}

/// Runs the suite with `parameters` for new volumes, prints its counts, and fails as it does, or when it left out
/// what the plugin says that it can.
fn passes(name: &str, parameters: Option<&str>) {
    tool::require_root();
    let scratch = Scratch::new("sanity");
    let settings = Settings::below(scratch.path(), &binary());
    let plugin = Plugin::start(&settings);
    let advertised = advertised(&settings.socket);
    let specs = scratch.text("specs.json");
    let mut sanity = Tool::new("csi-sanity")
        .args([
            "--csi.endpoint",
            &format!("unix://{}", settings.socket.display()),
        ])
        .args(["--csi.mountdir", &scratch.text("kubelet/pods/mount")])
        .args(["--csi.stagingdir", &scratch.text("kubelet/pods/staging")])
        .args(["--csi.testvolumesize", "1048576"])
        .args(["--ginkgo.no-color", "--ginkgo.json-report", &specs]);
    if let Some(parameters) = parameters {
        let file = scratch.path().join("parameters.yaml");
        std::fs::write(&file, parameters).unwrap();
        sanity = sanity.args(["--csi.testvolumeparameters", file.to_str().unwrap()]);
    }
    let ran = sanity.output();
    let counts = Counts::read(Path::new(&specs));
    report(&format!(
        "csi-sanity, {name}: {} ran, {} passed, {} failed, {} skipped as not advertised, {} switched off in the suite",
        counts.passed + counts.failed,
        counts.passed,
        counts.failed,
        counts.skipped.len(),
        counts.pending
    ));
    assert_eq!(ran.code, 0, "{ran}\nplugin: {}", settings.log_text());
    assert_eq!(counts.failed, 0, "{ran}");
    let unexplained: Vec<_> = counts
        .skipped
        .iter()
        .filter(|spec| !is_explained(spec, &advertised))
        .collect();
    assert!(
        unexplained.is_empty(),
        "left out without a reason: {unexplained:#?}\nadvertised: {advertised:#?}"
    );
    assert!(counts.pending <= 1, "{ran}");
    assert!(counts.passed >= 37, "only {} ran: {ran}", counts.passed);
    assert_eq!(plugin.stop(), 0);
}

#[test]
fn csi_sanity_passes_with_scratch_volumes() {
    passes("scratch volumes", None);
}

#[test]
fn csi_sanity_passes_with_volumes_of_an_image() {
    let shared = Shared::new();
    passes(
        "volumes of an image",
        Some(&format!("image: {}\n", shared.reference)),
    );
}

/// The check of skipped specs can fail: an ability that is advertised explains nothing.
#[test]
fn a_spec_of_an_ability_that_is_advertised_may_not_be_skipped() {
    let none = BTreeSet::new();
    let all: BTreeSet<_> = OPTIONAL.iter().map(|(name, _)| (*name).into()).collect();
    for spec in [
        " Node Service NodeStageVolume should fail when no volume id is provided",
        " ExpandVolume [Controller Server] should work",
        " Node Service NodeExpandVolume should fail when volume is not found",
    ] {
        assert!(is_explained(spec, &none) && !is_explained(spec, &all));
    }
    for spec in [" Node Service should work", " Identity Service Probe"] {
        assert!(!is_explained(spec, &none), "{spec}");
    }
}
