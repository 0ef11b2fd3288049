//! A layout on a full disk: a push says where the disk is full.

use crate::support::image::{self, Layer};
use crate::support::plugin::{self, Settings};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// Bytes of a layer's file. Both are more than fits; one is gathered as a whole before it is written.
const SIZES: [usize; 2] = [100 << 10, 1 << 20];

/// Once it was told as a layer that could not be put together, or not sent, without the file, and with the advice to pull
/// the image again.
#[test]
fn a_push_to_a_layout_on_a_full_disk_names_it() {
    tool::require_root();
    let scratch = Scratch::new("push");
    let disk = scratch.dir("disk");
    Tool::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&disk)
        .ok();
    let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
    let settings = Settings::below(scratch.path(), &binary);
    let run = |words: &[&str]| {
        Tool::at(&binary)
            .args(settings.store_arguments())
            .args(words)
            .output()
    };
    for (number, size) in SIZES.into_iter().enumerate() {
        let layout = scratch.path().join(format!("layout-{number}"));
        let layer = Layer::new().file("file", vec![b'x'; size]);
        image::write_layout(&layout, "one", &[layer]);
        let from = format!("oci:{}:one", layout.display());
        let pulled = run(&["pull", "-q", "-n", "full:1", &from]);
        assert_eq!(pulled.code, 0, "{pulled}");
        let to = format!("oci:{}:one", disk.join("layout").display());
        let ran = run(&["push", "-q", "--compression", "none", "full:1", &to]);
        assert_eq!(ran.code, 1, "{ran}");
        let blobs = disk.join("layout/blobs/sha256");
        let said = format!("write {}: no space left on device", blobs.display());
        assert!(ran.stderr.contains(&said), "{ran}");
        let hint = "hint: free some space where the image goes";
        assert!(ran.stderr.contains(hint), "{ran}");
    }
}
