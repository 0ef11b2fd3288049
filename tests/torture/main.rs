//! Strata and the Go tools at once on one graph root: four processes of each, a plan of mixed operations for every one of
//! them, and at the end nothing may be corrupt, lost, left over or counted wrongly.
//!
//! ```text
//! strata x4              create, import, name, mount, write, copy out, delete; also killed in the middle, and given again
//! containers-storage     the same, by Debian's 1.43 and by the newest, never killed: 1.43 loses updates then
//! podman                 containers and their mounts, names of the shared image
//! buildah, skopeo        working containers, commits; images from a layout
//! ```
//!
//! Each process owns what it makes; an image and a container are shared by all, and everybody names, mounts and writes them
//! at once. The plan follows from the seed alone, so what must be there in the end is known before anything runs.
//!
//! `TORTURE_OPERATIONS` and `TORTURE_SEED`, which is printed, say how much and repeat a plan; `TORTURE_WITHOUT` names the
//! locks that are left out in turn to try the suite itself.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod engines;
mod lane;
mod plan;
mod program;
mod random;
mod scene;
mod verdict;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

fn seed() -> u64 {
    number("TORTURE_SEED").unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos() as u64)
            % 1_000_000_000
    })
}

/// Eight processes at once: all that was acknowledged holds.
#[test]
fn four_of_strata_and_four_of_go_share_a_store() {
    let operations = number("TORTURE_OPERATIONS").unwrap_or(5_000) as usize;
    let complaints = scene::run(seed(), operations, None);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The suite itself is tried: without one of the locks it complains.
#[test]
fn a_lock_that_is_missing_is_noticed() {
    let locks = std::env::var("TORTURE_WITHOUT")
        .ok()
        .filter(|locks| !locks.is_empty())
        .unwrap_or_else(|| "layers.lock".to_owned());
    for lock in locks.split(',') {
        // What goes wrong is chance: a few short rounds with other seeds.
        let seed = seed();
        let noticed = (0..8).find_map(|round| {
            let complaints = scene::run(seed + round, 800, Some(lock));
            complaints.first().cloned()
        });
        let first = noticed.unwrap_or_else(|| panic!("nothing misses {lock}"));
        println!("torture: without {lock} it complains, as it should: {first}");
    }
}
