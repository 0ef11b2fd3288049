//! When an image is looked for in its registry, over CSI: a tag is moved, and the registry goes away.

use std::fs;
use std::path::Path;

use tonic::{Code, Status};

use super::node::Node;
use crate::support::image::{self, Layer};
use crate::support::plugin::{Wish, inline_handle};
use crate::support::registry::Registry;

struct World {
    node: Node,
    registry: Option<Registry>,
}

/// A key of a volume's attributes and its value.
type Attribute<'a> = Option<(&'a str, &'a str)>;

impl World {
    fn new() -> Self {
        let node = Node::new("policies");
        let registry = Registry::start(&node.scratch.dir("registry"));
        Self {
            node,
            registry: Some(registry),
        }
    }

    /// Makes `test/moving:tag` the image whose file says `text`.
    fn push(&self, tag: &str, text: &str) {
        let layout = self.node.scratch.path().join(format!("{tag}-{text}"));
        image::write_layout(&layout, tag, &[Layer::new().file("text", text)]);
        self.registry().push(&layout, "test/moving", tag);
    }

    fn registry(&self) -> &Registry {
        self.registry.as_ref().unwrap()
    }

    /// What a volume of the image shows.
    fn read(&self, image: &str, policy: Attribute) -> Result<String, Status> {
        let target = self.node.settings.target("pod", "data");
        let mut wish = Wish::inline(&inline_handle("pod"), &target, Some(image));
        if let Some((key, value)) = policy {
            wish = wish.with(key, value);
        }
        let published = self.node.kubelet.publish(&wish);
        let text = published.map(|()| read(&target));
        self.node.kubelet.unpublish(&wish.volume, &target).unwrap();
        text
    }

    /// The same of a claim's volume.
    fn read_claim(&self, image: &str, policy: Attribute) -> Result<String, Status> {
        let mut parameters = vec![("image", image)];
        parameters.extend(policy);
        let volume = self.node.kubelet.create("claim", &parameters)?;
        let target = self.node.settings.target("claim", "data");
        let mut wish = Wish::inline(&volume.volume_id, &target, None);
        wish.attributes = volume.volume_context.into_iter().collect();
        self.node.kubelet.publish(&wish)?;
        let text = read(&target);
        self.node.kubelet.unpublish(&wish.volume, &target).unwrap();
        self.node.kubelet.delete(&volume.volume_id).unwrap();
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
    type Read = fn(&World, &str, Attribute) -> Result<String, Status>;
    let ways: [Read; 2] = [World::read, World::read_claim];

    let mut world = World::new();
    let tagged = world.registry().reference("test/moving", "one");
    let latest = world.registry().reference("test/moving", "latest");
    let untagged = latest.trim_end_matches(":latest").to_owned();
    let push = |world: &World, text: &str| {
        for tag in ["one", "latest"] {
            world.push(tag, text);
        }
    };
    push(&world, "old");
    for read in ways {
        let status = read(&world, &tagged, NEVER).unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
    for image in [&tagged, &latest] {
        assert_eq!(world.read(image, None).unwrap(), "old");
    }

    push(&world, "new");
    for read in ways {
        // What is there is taken; so it is for a tag of which nothing is said.
        for policy in [IF_NOT_PRESENT, NEVER, None] {
            assert_eq!(read(&world, &tagged, policy).unwrap(), "old");
        }
        for image in [&latest, &untagged] {
            assert_eq!(read(&world, image, IF_NOT_PRESENT).unwrap(), "old");
        }
    }
    for (number, read) in ways.into_iter().enumerate() {
        // Of `latest`, said or not, always the newest.
        for image in [&latest, &untagged] {
            let text = format!("latest-{number}-{}", image.len());
            push(&world, &text);
            assert_eq!(read(&world, image, None).unwrap(), text);
        }
        for policy in ALWAYS {
            let text = format!("always-{number}-{}", policy.unwrap().0);
            push(&world, &text);
            assert_eq!(read(&world, &tagged, policy).unwrap(), text);
        }
    }

    drop(world.registry.take());
    for read in ways {
        for policy in [IF_NOT_PRESENT, NEVER, None] {
            assert_eq!(
                read(&world, &tagged, policy).unwrap(),
                "always-1-pullAlways"
            );
        }
        for (image, policy) in [(&tagged, ALWAYS[0]), (&latest, None)] {
            let status = read(&world, image, policy).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }
}
