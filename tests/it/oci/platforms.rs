//! Images for several platforms, as registries serve them: which one a pull takes, and what it says when
//! there is none.

use std::collections::BTreeMap;

use strata::oci::Platform;
use strata::oci::pull::{Policy, Trouble};
use strata::oci::{PullError, PullRequest, Pulled};
use strata::store::Kind;

use super::image::{self, Assembled, Format, Layer};
use super::{World, chain, digest, request};
use crate::support::server::Server;

/// What the index says, and what the image's own config says: many leave the variant out.
const PLATFORMS: [(&str, &str); 6] = [
    ("linux/amd64", "linux/amd64"),
    ("linux/amd64/v3", "linux/amd64"),
    ("linux/arm64/v8", "linux/arm64/v8"),
    ("linux/arm/v6", "linux/arm"),
    ("linux/arm/v7", "linux/arm/v7"),
    ("linux/s390x", "linux/s390x"),
];

/// A registry whose `a/b:x` is one image for each of these platforms, and a store.
struct Several {
    world: World,
    server: Server,
    images: BTreeMap<&'static str, Assembled>,
    index: Vec<u8>,
}

impl Several {
    fn new(format: Format) -> Self {
        let server = Server::start();
        let images: BTreeMap<_, _> = PLATFORMS
            .iter()
            .map(|(listed, own)| {
                let layer = Layer::new().file("platform", listed);
                let image = image::assemble(format, own, &[layer]);
                server.add_image("a/b", &image);
                (*listed, image)
            })
            .collect();
        let attestation = image::assemble(format, "unknown/unknown", &[]);
        let mut entries: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
        entries.push(("unknown/unknown", &attestation));
        let index = image::index(format, &entries);
        for target in ["x", &image::digest(&index)] {
            server.add_manifest("a/b", target, format.index(), &index);
        }
        Self {
            world: World::new("vfs"),
            server,
            images,
            index,
        }
    }

    fn request(&self, reference: &str, platform: Option<&str>) -> PullRequest {
        let mut request = request(reference);
        request.policy = Policy::Always;
        request.platform = platform.map(|text| text.parse().unwrap());
        request
    }

    fn pull(&self, platform: Option<&str>) -> Result<Pulled, PullError> {
        let request = self.request(&self.server.reference("a/b", "x"), platform);
        self.world.puller.pull_here(&request)
    }

    /// What is stored under a key with the image.
    fn data(&self, image: &str, key: &str) -> Vec<u8> {
        self.world.store.big_data(Kind::Image, image, key).unwrap()
    }
}

#[test]
fn the_image_for_the_platform_is_pulled_with_the_index_that_led_to_it() {
    for format in [Format::Docker, Format::Oci] {
        let several = Several::new(format);
        let index_digest = image::digest(&several.index);
        for (wanted, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/s390x", "linux/s390x"),
        ] {
            let pulled = several.pull(Some(wanted)).unwrap();
            let image = &several.images[expected].built;
            assert_eq!(pulled.image_id, image.id, "{format:?} {wanted}");
            assert_eq!(pulled.digest, Some(digest(&index_digest)));
            assert_eq!(several.data(&image.id, "manifest"), image.manifest);
            let key = format!("manifest-{index_digest}");
            assert_eq!(several.data(&image.id, &key), several.index);
            let found = several.world.store.find_image(&pulled.names[0]).unwrap();
            assert_eq!(found.unwrap().id, image.id, "the name goes with the pull");
        }
        let host = Platform::host().to_string();
        let own = several.images.iter().find(|(name, _)| {
            // This machine may be one for which there is a variant only.
            **name == host || name.strip_prefix(host.as_str()) == Some("/v8")
        });
        let (_, own) = own.expect("the index has this machine's platform");
        assert_eq!(several.pull(None).unwrap().image_id, own.built.id);
    }
}

#[test]
fn an_index_is_pulled_by_its_digest_and_a_manifest_in_it_by_its_own() {
    for format in [Format::Docker, Format::Oci] {
        let several = Several::new(format);
        let arm = &several.images["linux/arm/v7"].built;
        for digest in [&image::digest(&several.index), &arm.manifest_digest] {
            let reference = format!("{}/a/b@{digest}", several.server.address);
            let request = several.request(&reference, Some("linux/arm/v7"));
            let pulled = several.world.puller.pull_here(&request).unwrap();
            assert_eq!(pulled.image_id, arm.id);
            assert_eq!(pulled.digest.unwrap().as_str(), digest);
        }
    }
}

#[test]
fn an_image_without_the_platform_names_those_that_it_has() {
    for format in [Format::Docker, Format::Oci] {
        let several = Several::new(format);
        for wanted in ["linux/riscv64", "linux/arm/v5", "windows/amd64"] {
            let error = several.pull(Some(wanted)).unwrap_err();
            assert_eq!(error.trouble(), Trouble::NotFound);
            let text = chain(&error);
            assert!(text.contains(wanted), "{text}");
            for (listed, _) in PLATFORMS {
                assert!(text.contains(listed), "{listed} is missing: {text}");
            }
            assert!(!text.contains("unknown"), "{text}");
            several.world.assert_empty();
        }
    }
}

/// An index may be wrong about what it lists; the image's own config has the last word.
#[test]
fn an_image_that_calls_itself_another_than_its_index_does_is_refused() {
    let several = Several::new(Format::Docker);
    let lie = image::index(
        Format::Docker,
        &[("linux/riscv64", &several.images["linux/s390x"])],
    );
    let server = &several.server;
    server.add_manifest("a/b", "lie", Format::Docker.index(), &lie);
    let request = several.request(&server.reference("a/b", "lie"), Some("linux/riscv64"));
    let error = several.world.puller.pull_here(&request).unwrap_err();
    assert_eq!(error.trouble(), Trouble::NotFound);
    let text = chain(&error);
    assert!(
        text.contains("is for linux/s390x, not for linux/riscv64"),
        "{text}"
    );
    several.world.assert_empty();
}
