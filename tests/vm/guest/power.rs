//! The end of a boot: in order, or at once.

use std::fs::{self, File};
use std::path::Path;

/// The exit code by which process 1 boots the guest again, in order.
pub const REBOOT: u8 = 200;

/// How often the guest has been booted, from 1 on.
pub fn boot() -> u32 {
    std::env::var("BOOT")
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("process 1 counts the boots in BOOT")
}

/// Resets the machine at once: what no disk was told is lost.
pub fn cut() -> ! {
    // Or process 1 takes it for a panic of the kernel.
    File::create("/out/again")
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_folder(Path::new("/out")))
        .expect("the reboot can be announced");
    fs::write("/proc/sysrq-trigger", "b").expect("the machine can be reset");
    loop {
        std::thread::park();
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// When the system refuses.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
