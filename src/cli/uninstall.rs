//! `uninstall-check`: asks the cluster whether pods have volumes of the driver, before the plugin is taken
//! away. Without it the kubelet can't take the volumes of a pod down, and the pod can't end.

use super::definition::{Definition, Flag, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::node::api_server;
use super::output::Output;
use crate::node::config::DEFAULT_DRIVER_NAME;
use crate::node::kubernetes::api::Api;
use crate::node::kubernetes::users::User;

const FLAGS: &[Flag] = &[
    Flag::value(
        "driver-name",
        None,
        "CSI driver name (default csi.strata.dev)",
    ),
    Flag::value(
        "release",
        None,
        "Name of the Helm release, for the advice how to go on",
    ),
    Flag::value("namespace", None, "Namespace of the release"),
    Flag::value("revision", None, "Revision of the release"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "uninstall-check",
    "Fail, naming them, while pods of the cluster have volumes of the driver",
    Run::Alone(run),
)
.flags(&[FLAGS])];

/// How many pods are named; the rest is counted.
const NAMED: usize = 50;

/// `uninstall-check`: exit code 1, and the pods on stdout, while there are any.
fn run(given: &Given, output: &mut Output) -> Outcome {
    let driver = given.filled("driver-name").unwrap_or(DEFAULT_DRIVER_NAME);
    let server = api_server()?.ok_or_else(|| {
        Failure::new("this is no pod: KUBERNETES_SERVICE_HOST is not set")
            .advise("`helm uninstall` runs this command in the cluster")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("start a runtime").caused_by(&error))?;
    let users = runtime.block_on(async {
        let api = Api::new(&server, driver, "strata-uninstall-check")?;
        api.users(driver).await
    });
    let users = users.map_err(|error| Failure::because(&error))?;
    if users.is_empty() {
        output.line(format_args!("no pod has a volume of {driver}"))?;
        return Ok(0);
    }
    output.line(report(
        driver,
        &users,
        &Release {
            name: given.filled("release").unwrap_or("strata"),
            namespace: given.filled("namespace").unwrap_or("strata"),
            revision: given.filled("revision").unwrap_or("1"),
        },
    ))?;
    Ok(FAILED)
}

/// What Helm calls what is about to be uninstalled.
struct Release<'a> {
    name: &'a str,
    namespace: &'a str,
    revision: &'a str,
}

fn report(driver: &str, users: &[User], release: &Release<'_>) -> String {
    let Release {
        name: release,
        namespace,
        revision,
    } = release;
    use std::fmt::Write;
    let pods = if users.len() == 1 {
        "pod has"
    } else {
        "pods have"
    };
    let mut text = format!("{} {pods} volumes of {driver}:\n", users.len());
    for user in users.iter().take(NAMED) {
        writeln!(text, "  {user}").expect("writing to a String can't fail");
    }
    if users.len() > NAMED {
        writeln!(text, "  and {} more", users.len() - NAMED)
            .expect("writing to a String can't fail");
    }
    let in_namespace = format!("--namespace {namespace}");
    write!(
        text,
        "Without the plugin they would run on with their data, but could not end.\n\
         Delete them, and uninstall again.\n\
         To keep the release after all: helm rollback {release} {revision} {in_namespace}\n\
         To go on without asking: helm uninstall {release} {in_namespace} --no-hooks (pods that are \
         deleted meanwhile end when the chart is installed again)"
    )
    .expect("writing to a String can't fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_is_named_up_to_a_limit() {
        let user = |number: usize| User {
            namespace: "shop".to_owned(),
            name: format!("web-{number}"),
            node: "node-1".to_owned(),
            volumes: vec!["site".to_owned()],
            is_ending: false,
        };
        let users: Vec<_> = (0..60).map(user).collect();
        let release = Release {
            name: "strata",
            namespace: "storage",
            revision: "3",
        };
        let text = report("csi.strata.dev", &users[..1], &release);
        assert!(text.starts_with("1 pod has volumes of csi.strata.dev:\n  shop/web-0 on node-1"));
        assert!(text.contains("helm uninstall strata --namespace storage --no-hooks"));
        assert!(text.contains("helm rollback strata 3 --namespace storage"));
        let text = report("csi.strata.dev", &users, &release);
        assert!(text.contains("shop/web-49 on") && !text.contains("shop/web-50 on"));
        assert!(text.contains("  and 10 more\n"));
    }
}
