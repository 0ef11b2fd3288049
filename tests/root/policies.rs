//! When an image is looked for in its registry, over CSI: a tag is moved, and the registry goes away.

use std::fs;
use std::path::Path;

use tonic::{Code, Status};

use crate::support::image::{self, Layer};
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool;

struct Node {
    kubelet: Kubelet,
    settings: Settings,
    registry: Option<Registry>,
    _plugin: Plugin,
    scratch: Scratch,
}

/// A key of a volume's attributes and its value.
type Attribute<'a> = Option<(&'a str, &'a str)>;

impl Node {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("policies");
        let settings = Settings::below(
            scratch.path(),
            &plugin::binary(env!("CARGO_BIN_EXE_strata")),
        );
        let plugin = Plugin::start(&settings);
        Self {
            kubelet: Kubelet::connect(&settings.socket),
            registry: Some(Registry::start(&scratch.dir("registry"))),
            settings,
            scratch,
            _plugin: plugin,
        }
    }

    /// Makes `test/moving:tag` the image whose file says `text`.
    fn push(&self, tag: &str, text: &str) {
        let layout = self.scratch.path().join(format!("{tag}-{text}"));
        image::write_layout(&layout, tag, &[Layer::new().file("text", text)]);
        self.registry().push(&layout, "test/moving", tag);
    }

    fn registry(&self) -> &Registry {
        self.registry.as_ref().unwrap()
    }

    /// What a volume of the image shows.
    fn read(&self, image: &str, policy: Attribute) -> Result<String, Status> {
        let target = self.settings.target("pod", "data");
        let mut wish = Wish::inline(&inline_handle("pod"), &target, Some(image));
        if let Some((key, value)) = policy {
            wish = wish.with(key, value);
        }
        let published = self.kubelet.publish(&wish);
        let text = published.map(|()| read(&target));
        self.kubelet.unpublish(&wish.volume, &target).unwrap();
        text
    }

    /// The same of a claim's volume.
    fn read_claim(&self, image: &str, policy: Attribute) -> Result<String, Status> {
        let mut parameters = vec![("image", image)];
        parameters.extend(policy);
        let volume = self.kubelet.create("claim", &parameters)?;
        let target = self.settings.target("claim", "data");
        let mut wish = Wish::inline(&volume.volume_id, &target, None);
        wish.attributes = volume.volume_context.into_iter().collect();
        self.kubelet.publish(&wish)?;
        let text = read(&target);
        self.kubelet.unpublish(&wish.volume, &target).unwrap();
        self.kubelet.delete(&volume.volume_id).unwrap();
        Ok(text)
    }
}

fn read(target: &Path) -> String {
    fs::read_to_string(target.join("text")).unwrap()
}

#[test]
fn the_pull_policy_says_when_the_registry_is_asked() {
    const NEVER: Attribute = Some(("pullPolicy", "Never"));
    const IF_NOT_PRESENT: Attribute = Some(("pullPolicy", "IfNotPresent"));
    const ALWAYS: [Attribute; 2] = [Some(("pullPolicy", "Always")), Some(("pullAlways", "true"))];
    type Read = fn(&Node, &str, Attribute) -> Result<String, Status>;
    let ways: [Read; 2] = [Node::read, Node::read_claim];

    let mut node = Node::new();
    let tagged = node.registry().reference("test/moving", "one");
    let latest = node.registry().reference("test/moving", "latest");
    let untagged = latest.trim_end_matches(":latest").to_owned();
    let push = |node: &Node, text: &str| {
        for tag in ["one", "latest"] {
            node.push(tag, text);
        }
    };
    push(&node, "old");
    for read in ways {
        let status = read(&node, &tagged, NEVER).unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
    for image in [&tagged, &latest] {
        assert_eq!(node.read(image, None).unwrap(), "old");
    }

    push(&node, "new");
    for read in ways {
        // What is there is taken; so it is for a tag of which nothing is said.
        for policy in [IF_NOT_PRESENT, NEVER, None] {
            assert_eq!(read(&node, &tagged, policy).unwrap(), "old");
        }
        for image in [&latest, &untagged] {
            assert_eq!(read(&node, image, IF_NOT_PRESENT).unwrap(), "old");
        }
    }
    for (number, read) in ways.into_iter().enumerate() {
        // Of `latest`, said or not, always the newest.
        for image in [&latest, &untagged] {
            let text = format!("latest-{number}-{}", image.len());
            push(&node, &text);
            assert_eq!(read(&node, image, None).unwrap(), text);
        }
        for policy in ALWAYS {
            let text = format!("always-{number}-{}", policy.unwrap().0);
            push(&node, &text);
            assert_eq!(read(&node, &tagged, policy).unwrap(), text);
        }
    }

    drop(node.registry.take());
    for read in ways {
        for policy in [IF_NOT_PRESENT, NEVER, None] {
            assert_eq!(read(&node, &tagged, policy).unwrap(), "always-1-pullAlways");
        }
        for (image, policy) in [(&tagged, ALWAYS[0]), (&latest, None)] {
            let status = read(&node, image, policy).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }
}
