//! What commands that only look take in a large store, against the newest peer.

use std::process::Command;
use std::time::Duration;

use super::Extent;
use super::cycle::Side;
use super::memory;
use super::numbers::{Promise, Samples, Table};

/// Each of them as the store is, which has one image, and one container and layer more than `containers`
/// says.
const COMMANDS: [&[&str]; 4] = [
    &["layers"],
    &["images"],
    &["containers"],
    &["exists", "standing-7"],
];

/// Commands that read whatever there is: none may need much memory.
const LARGEST: [&[&str]; 3] = [
    &["layers", "--json"],
    &["containers", "--json"],
    &["layers", "--tree"],
];

pub fn measure(extent: Extent, ours: &Side, peer: &Side, table: &mut Table) {
    let many = extent.containers[1];
    for command in COMMANDS {
        let lines = |side: &Side| side.run(command).text().lines().count();
        assert_eq!(lines(ours), lines(peer), "{command:?} says the same");
        let mut times = [Samples::default(), Samples::default()];
        for _ in 0..(extent.pairs / 10).max(5) {
            for (side, times) in [ours, peer].into_iter().zip(&mut times) {
                times.time(|| side.run(command));
            }
        }
        table.add(
            format!("{}; {many} layers and containers, p50", command.join(" ")),
            "ms",
            times[0].median(),
            Some(("containers-storage 1.65", times[1].median())),
            Promise::Faster(10.0),
        );
    }
    let mut largest = [0.0_f64; 2];
    for command in COMMANDS.into_iter().chain(LARGEST) {
        for (side, largest) in [ours, peer].into_iter().zip(&mut largest) {
            let mut program = Command::new(&side.program);
            program.args(&side.store).args(command);
            *largest = largest.max(memory::peak(&mut program, Duration::ZERO));
        }
    }
    table.add(
        format!("peak memory of listings; {many} layers and containers"),
        "MiB",
        largest[0],
        Some(("containers-storage 1.65", largest[1])),
        Promise::Below(64.0),
    );
}
