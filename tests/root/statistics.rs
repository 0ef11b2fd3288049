//! What statistics say of volumes on a file system that nobody else uses.

use std::fs;

use strata::node::csi::wire::VolumeUsage;
use strata::node::csi::wire::volume_capability::access_mode::Mode;
use strata::node::csi::wire::volume_usage::Unit;
use tonic::Code;

use super::full_disk::Disk;
use crate::support::plugin::{Wish, inline_handle};

impl Disk {
    /// Bytes and inodes, as the plugin tells them.
    fn usage(&self, wish: &Wish) -> [VolumeUsage; 2] {
        let told = self.kubelet.stats(&wish.volume, &wish.target).unwrap();
        let usage = |unit: Unit| {
            let mut found = told.usage.iter().filter(|usage| usage.unit() == unit);
            let usage = *found.next().expect("it is told");
            assert!(found.next().is_none(), "it is told once: {told:?}");
            usage
        };
        assert_eq!(told.usage.len(), 2);
        [usage(Unit::Bytes), usage(Unit::Inodes)]
    }
}

#[test]
fn statistics_are_those_of_the_pool_at_every_target() {
    let disk = Disk::new();
    let mut first = Wish::inline(
        &inline_handle("one"),
        &disk.settings.target("one", "data"),
        None,
    );
    first.mode = Mode::SingleNodeMultiWriter;
    disk.kubelet.publish(&first).unwrap();
    let second = Wish {
        target: disk.settings.target("two", "data"),
        ..first.clone()
    }
    .read_only();
    disk.kubelet.publish(&second).unwrap();

    let pool = || {
        let found = rustix::fs::statvfs(&disk.settings.graph).unwrap();
        let unit = found.f_frsize;
        let amounts = [
            [
                found.f_blocks * unit,
                found.f_bfree * unit,
                found.f_bavail * unit,
            ],
            [found.f_files, found.f_ffree, found.f_favail],
        ];
        amounts.map(|[total, free, available]| {
            [total, total - free, available].map(|amount| i64::try_from(amount).unwrap())
        })
    };
    let told = |wish: &Wish| {
        let usage = disk.usage(wish);
        usage.map(|usage| [usage.total, usage.used, usage.available])
    };
    let before = told(&first);
    assert_eq!(before, pool());
    assert_eq!(told(&second), before, "of the read-only target, too");

    const SIZE: i64 = 8 << 20;
    let file = fs::File::create(first.target.join("large")).unwrap();
    std::io::Write::write_all(&mut &file, &vec![1; usize::try_from(SIZE).unwrap()]).unwrap();
    for name in 0..5 {
        fs::write(first.target.join(name.to_string()), "").unwrap();
    }
    file.sync_all().unwrap();
    for wish in [&first, &second] {
        let now = told(wish);
        assert_eq!(now, pool());
        let [bytes, inodes] = now;
        let grown = bytes[1] - before[0][1];
        assert!((SIZE..SIZE + (1 << 20)).contains(&grown), "{grown}");
        assert_eq!(before[0][2] - bytes[2], grown);
        assert_eq!(inodes[1] - before[1][1], 6);
        assert_eq!([bytes[0], inodes[0]], [before[0][0], before[1][0]]);
    }

    disk.kubelet
        .unpublish(&second.volume, &second.target)
        .unwrap();
    let gone = disk.kubelet.stats(&second.volume, &second.target);
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    assert_eq!(told(&first), pool());
    disk.kubelet
        .unpublish(&first.volume, &first.target)
        .unwrap();
}
