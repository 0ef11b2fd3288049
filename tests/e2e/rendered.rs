//! The API server takes what the chart renders, whatever the values: every field is known to it, and every object valid.

use super::chart::{folder, helm};
use super::cluster::kubectl;

/// Values that change what is rendered. Names are others than those of the release that is installed, so that nothing
/// of it is compared with them.
const VARIANTS: [&[&str]; 6] = [
    &[],
    &["provisioner.enabled=false", "uninstall.check=false"],
    &[
        "kubeletDir=/var/lib/k0s/kubelet",
        "pool.path=/data/strata",
        "runDir=/run/other",
        "additionalImageStores={/var/lib/containers/storage}",
    ],
    &[
        "storageClass.image=registry.example.com/site:1",
        "storageClass.pullSecret.name=pull",
        "storageClass.pullSecret.namespace=default",
        "storageClass.isDefault=true",
        "storageClass.parameters.pullPolicy=Always",
    ],
    &[
        "registries.insecure={registry.example.com:5000}",
        "registries.loginSecret=logins",
        "registries.authorities=-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "node.hostNetwork=false",
        "node.extraArgs={--debug}",
        "node.podAnnotations.note=text",
        "labels.team=storage",
        "imagePullSecrets={one,two}",
    ],
    &[
        "rbac.create=false",
        "serviceAccount.create=false",
        "serviceAccount.name=mine",
    ],
];

#[test]
fn what_is_rendered_is_valid() {
    for variant in VARIANTS {
        let mut render = helm(&["template", "other", folder(), "--namespace", "default"])
            .args(["--kube-version", "1.36.0"])
            .args(["--set", "image.repository=registry.example.com/strata"])
            .args(["--set", "driverName=other.example.com"])
            .args(["--set", "storageClass.name=other"]);
        for value in variant {
            render = render.args(["--set", value]);
        }
        let rendered = render.ok().text();
        let applied = kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"])
            .input(rendered)
            .ok();
        assert!(
            !applied.stderr.contains("Warning"),
            "{variant:?}: {applied}"
        );
    }
}
