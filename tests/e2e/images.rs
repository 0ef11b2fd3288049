//! Images in the cluster's registries.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cluster::{OPEN, PRIVATE};
use super::support::image::{Layer, write_layout};
use super::support::scratch::Scratch;
use super::support::tool::Tool;

/// What an image of the tests has in `index.html`.
pub fn page(name: &str) -> String {
    format!("page of {name}")
}

/// The reference of an image in the open registry. Each run has names of its own: in a cluster that is used again the
/// store and the registry still have those of the run before.
pub fn reference(name: &str) -> String {
    format!("{OPEN}/{}:1", repository(name))
}

fn repository(name: &str) -> String {
    static RUN: OnceLock<u64> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("a clock that is right").as_secs()
    });
    format!("{name}-{run}")
}

/// An image with `index.html` and `data/numbers`, in the open registry. Its reference.
pub fn site(name: &str) -> String {
    push(OPEN, name, None)
}

/// The same in the registry with a password.
pub fn private_site(name: &str) -> String {
    push(PRIVATE, name, Some("e2e:strata"))
}

fn push(registry: &str, name: &str, credentials: Option<&str>) -> String {
    let scratch = Scratch::new("e2e-image");
    let layout = scratch.path().join("layout");
    let below = Layer::new()
        .file("index.html", "replaced by the layer above\n")
        .dir("data")
        .file(
            "data/numbers",
            (0..2000).map(|n| format!("{n}\n")).collect::<String>(),
        );
    let above = Layer::new().file("index.html", format!("{}\n", page(name)));
    write_layout(&layout, "1", &[below, above]);
    let mut skopeo = Tool::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false"]);
    if let Some(credentials) = credentials {
        skopeo = skopeo.args(["--dest-creds", credentials]);
    }
    let reference = format!("{registry}/{}:1", repository(name));
    skopeo
        .arg(format!("oci:{}:1", layout.display()))
        .arg(format!("docker://{reference}"))
        .ok();
    reference
}
