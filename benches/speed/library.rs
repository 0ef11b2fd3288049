//! The cycle of four commands inside one process, library against library; and many processes at once.

use std::path::Path;

use super::Extent;
use super::member::{Member, Work};
use super::numbers::{Promise, Samples, Table};
use super::support::tool;

/// The peer's own way to be as durable as our creations.
const SYNCED: &str = "overlay.sync=filesystem";

/// How many processes, and how many containers each of them creates and deletes.
const CROWD: usize = 32;
const EACH: usize = 100;

/// One cycle at a time, in stores that have `count` containers.
pub fn cycles(
    [ours, theirs, synced]: [(&Path, &str); 3],
    count: usize,
    pairs: usize,
    promise: f64,
    table: &mut Table,
) {
    let peer = tool::find("storage-member");
    let mut members = [
        Member::ours(ours.0, ours.1, false),
        Member::theirs(&peer, theirs.0, theirs.1, &[]),
        Member::ours(ours.0, ours.1, true),
        Member::theirs(&peer, synced.0, synced.1, &[SYNCED]),
    ];
    let mut samples = [(); 4].map(|()| Samples::default());
    for n in 0..=pairs {
        for at in 0..members.len() {
            let at = if n % 2 == 0 { at } else { 3 - at };
            members[at].tell(Work::Cycles, 1);
            let took = members[at].wait();
            // The first round reads the records.
            if n > 0 {
                samples[at].add(took);
            }
        }
    }
    let [ours, theirs, durable, synced] = samples.map(|samples| samples.median());
    table.add(
        format!("the same inside one process; {count} containers, p50"),
        "ms",
        ours,
        Some(("containers-storage 1.65", theirs)),
        Promise::Faster(promise),
    );
    table.add(
        format!("the same inside one process; {count} containers, both durable, p50"),
        "ms",
        durable,
        Some(("containers-storage 1.65, sync", synced)),
        Promise::Nothing,
    );
}

/// Many processes at once, each with a store of its own over the same files.
pub fn crowd([ours, theirs]: [(&Path, &str); 2], extent: Extent, table: &mut Table) {
    let each = EACH.min(extent.pairs);
    let peer = tool::find("storage-member");
    let run = |start: &dyn Fn() -> Member| {
        let mut members: Vec<_> = (0..CROWD).map(|_| start()).collect();
        for member in &mut members {
            member.tell(Work::Pairs, each);
        }
        let mut times = Samples::default();
        for member in &mut members {
            times.add(member.wait());
        }
        times
    };
    let ours = run(&|| Member::ours(ours.0, ours.1, false));
    let theirs = run(&|| Member::theirs(&peer, theirs.0, theirs.1, &[]));
    let rate = |times: &Samples| (CROWD * each) as f64 / times.percentile(100) * 1000.0;
    table.add(
        format!("{CROWD} processes, each creates and deletes {each} containers"),
        "pairs/s",
        rate(&ours),
        Some(("containers-storage 1.65", rate(&theirs))),
        Promise::AtLeast(3.0),
    );
    table.add(
        format!("the slowest of the {CROWD} processes"),
        "ms",
        ours.percentile(100),
        Some(("their median", ours.median())),
        Promise::AtMost(3.0),
    );
}
