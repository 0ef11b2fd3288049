//! Images for the guest: in a registry of its own, whose data and address outlive a boot, and in an OCI layout.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::chance::Chance;
use super::place;
use crate::support::image::{self, Compression, Layer};
use crate::support::registry::Registry;
use crate::support::tool::Tool;

/// On the guest's root file system, which is thrown away with the guest.
fn folder() -> PathBuf {
    place::at("/var/lib/strata-test")
}

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

const LAYERS: u64 = 4;
const FILES: u64 = 20;
const SIZE: usize = 32 << 10;

/// The small image that most volumes are of.
pub const SITE: &str = "127.0.0.1:5000/test/site:one";

/// The reference of the large image `number` in the registry.
pub fn large(number: u32) -> String {
    format!("127.0.0.1:5000/test/large-{number}:one")
}

/// The number in it.
pub fn number(large: &str) -> u32 {
    large
        .strip_prefix("127.0.0.1:5000/test/large-")
        .and_then(|rest| rest.strip_suffix(":one"))
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{large} is no large image"))
}

/// The reference of the same kind of image in a layout.
pub fn in_layout(number: u32) -> String {
    format!("oci:{}:one", layout(&format!("layout-{number}")).display())
}

fn layout(name: &str) -> PathBuf {
    folder().join(name)
}

/// Starts the registry, with all that it was given in earlier boots.
pub fn registry() -> Registry {
    Registry::start_at(&folder().join("registry"), ADDRESS)
}

/// Makes all images: `count` large ones in the registry, and as many in layouts.
pub fn make(registry: &Registry, count: u32) {
    fs::create_dir_all(folder()).expect("a folder for images can be made");
    let site = layout("site");
    image::write_busybox_layout(&site, "one");
    registry.push(&site, "test/site", "one");
    for number in 0..count {
        let folder = layout("large");
        image::write_layout(&folder, "one", &layers(number, "registry"));
        registry.push(&folder, &format!("test/large-{number}"), "one");
        fs::remove_dir_all(&folder).expect("a layout can be removed");
        let folder = layout(&format!("layout-{number}"));
        image::write_layout(&folder, "one", &layers(number, "layout"));
    }
    Tool::new("sync").ok();
}

fn layers(number: u32, kind: &str) -> Vec<Layer> {
    (0..LAYERS)
        .map(|layer| {
            let made = (0..FILES).fold(Layer::new().dir("data"), |made, file| {
                made.file(&path(layer, file), content(number, kind, layer, file))
            });
            // Inflating must not be all that takes time.
            made.compression(if layer == 0 {
                Compression::Gzip
            } else {
                Compression::None
            })
        })
        .collect()
}

fn path(layer: u64, file: u64) -> String {
    format!("data/{layer}-{file}")
}

fn content(number: u32, kind: &str, layer: u64, file: u64) -> Vec<u8> {
    let seed = u64::from(number) << 32 | layer << 16 | file << 1 | u64::from(kind == "layout");
    Chance::new(seed).bytes(SIZE)
}

/// Every file of the large image `number` is at `root`, whole.
pub fn assert_whole(root: &Path, number: u32, kind: &str) {
    for layer in 0..LAYERS {
        for file in 0..FILES {
            let path = root.join(path(layer, file));
            let bytes =
                fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
            assert!(
                bytes == content(number, kind, layer, file),
                "{} has other bytes than its image",
                path.display()
            );
        }
    }
}
