//! What the plugin's account may change of nodes: roles can't say it, the chart's admission policy does.

use serde_json::{Value, json};

use super::chart::{DRIVER, NAMESPACE, RELEASE};
use super::cluster::{self, NODE, kubectl};
use super::stage::play;
use super::support::tool::Ran;

/// What the API server would make of a change of the node by the plugin whose token was made for `node`.
fn change(node: &str, patch: &Value) -> Ran {
    kubectl(&["patch", "node", NODE, "--dry-run=server"])
        .arg(format!("--as=system:serviceaccount:{NAMESPACE}:{RELEASE}"))
        .arg(format!(
            "--as-user-extra=authentication.kubernetes.io/node-name={node}"
        ))
        .args(["--type=merge", "--patch", &patch.to_string()])
        .output()
}

fn labels(labels: &Value) -> Value {
    json!({ "metadata": { "labels": labels } })
}

#[test]
fn the_plugin_may_only_take_its_own_labels_off_its_own_node() {
    play(|| {
        let pool = format!("topology.{DRIVER}/pool-default");
        let own = &cluster::get(&["node", NODE])["metadata"]["labels"][&pool];
        assert!(own.is_string(), "the node has no label {pool}");
        let allowed = change(NODE, &labels(&json!({ &pool: null })));
        assert!(allowed.code == 0, "{allowed}");

        let its_own = "Strata may change no node but its own";
        let labels_alone = "Strata may only take its own topology labels off a node";
        let refused = [
            ("node-2", labels(&json!({ &pool: null })), its_own),
            ("", labels(&json!({ &pool: null })), its_own),
            (NODE, labels(&json!({ &pool: "another" })), labels_alone),
            (NODE, labels(&json!({ "new": "label" })), labels_alone),
            (
                NODE,
                labels(&json!({ "kubernetes.io/hostname": null })),
                labels_alone,
            ),
            (
                NODE,
                json!({ "metadata": { "annotations": { "new": "note" } } }),
                labels_alone,
            ),
            (
                NODE,
                json!({ "spec": { "unschedulable": true } }),
                labels_alone,
            ),
        ];
        for (node, patch, text) in refused {
            let ran = change(node, &patch);
            let said = format!("{node}: {patch}: {ran}");
            assert!(ran.code != 0 && ran.stderr.contains(text), "{said}");
        }
    });
}
