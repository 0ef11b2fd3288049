//! The plugin is killed before and after each call that changes something, started again, and asked
//! again as the kubelet does: every call succeeds in the end, and nothing is left over.
//!
//! Every command that changes a store is killed, and gets errors, at calls of its own. Layers of few files are unpacked by one
//! thread, whose calls come in the same order each time; those of many files by several, in cases of their own.
//!
//! Whether the hook counts the right calls is compared with strace, which also kills a program that has no hook.
//!
//! Built with the feature `fault`, by `make test`. Of the commands' points a sample is tried, all by `STRATA_CRASH_WHOLE=1`.
//! Of the plugin's all are tried; `STRATA_CRASH_SAMPLE=N` takes each N-th only, `STRATA_CRASH_SEED` repeats the random
//! points of a run.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod caught;
mod commands;
mod commit;
mod copying;
mod counting;
mod cycle;
mod full_disk;
mod leftovers;
mod place;
mod points;
mod reading;
mod scene;
mod script;
mod trace;
mod trial;

use full_disk::Life;
use place::Kind;
use points::Points;
use script::Step;
use trial::Share;

/// An inline volume of an image that is there: published, written, published again, unpublished.
#[test]
fn an_inline_volume_survives_a_kill_at_every_point() {
    points::run(
        "inline",
        Points::Every,
        &[
            Step::Publish,
            Step::Write,
            Step::PublishAgain,
            Step::Unpublish,
        ],
    );
}

/// A claim's volume: created, published, written, unpublished, published, deleted.
#[test]
fn a_created_volume_survives_a_kill_at_every_point() {
    points::run(
        "created",
        Points::Every,
        &[
            Step::Create,
            Step::PublishCreated,
            Step::Write,
            Step::UnpublishCreated,
            Step::PublishCreated,
            Step::Read,
            Step::UnpublishCreated,
            Step::Delete,
        ],
    );
}

/// A publish that pulls the image first, layer after layer.
#[test]
fn a_pull_survives_a_kill_at_every_point() {
    points::run(
        "pull",
        Points::EveryOfOneLane,
        &[Step::PublishPulling, Step::Write, Step::Unpublish],
    );
}

/// The same with layers in parallel, at random points.
#[test]
fn a_parallel_pull_survives_a_kill_at_random_points() {
    points::run(
        "parallel pull",
        Points::Random(300),
        &[Step::PublishPulling, Step::Write, Step::Unpublish],
    );
}

/// A publish of an image that an additional store has.
#[test]
fn an_image_brought_from_another_store_survives_a_kill_at_every_point() {
    points::run(
        "bring",
        Points::EveryOfOneLane,
        &[Step::PublishBringing, Step::Write, Step::Unpublish],
    );
}

/// No space for an inline volume, at each call that needs some.
#[test]
fn an_inline_volume_survives_a_full_disk_at_every_call() {
    full_disk::run("inline", Life::Inline);
}

/// The same with the pull of its image.
#[test]
fn a_pull_survives_a_full_disk_at_every_call() {
    full_disk::run("pull", Life::Pulling);
}

/// The same with a claim's volume, from its creation to its deletion.
#[test]
fn a_created_volume_survives_a_full_disk_at_every_call() {
    full_disk::run("created", Life::Claim);
}

/// The suite itself is tried: without the deletion of what a dead plugin has left half deleted, points fail.
#[test]
fn a_plugin_that_leaves_remains_is_noticed() {
    points::run_without(
        "remains",
        "without a guard",
        Points::Last(40),
        &[Step::Publish, Step::Write, Step::Unpublish],
    );
}

/// Every command that changes a store, killed at its calls, and with errors from them, interrupted ones and short writes.
#[test]
fn every_command_survives_kills_and_errors_at_its_calls() {
    trial::run(Kind::Overlay, [share(130), share(90), share(22)]);
}

/// The same with images in a root of their own.
#[test]
fn every_command_survives_kills_and_errors_in_a_split_store() {
    trial::run(Kind::Split, [share(24), share(16), share(4)]);
}

/// The same with copied directories.
#[test]
fn every_command_survives_kills_and_errors_with_copied_layers() {
    trial::run(Kind::Copies, [share(24), share(16), share(4)]);
}

/// The same with copied directories whose files share blocks.
#[test]
fn every_command_survives_kills_and_errors_with_shared_blocks() {
    trial::run(Kind::Reflinks, [share(24), share(16), share(4)]);
}

/// The same with subvolumes.
#[test]
fn every_command_survives_kills_and_errors_with_subvolumes() {
    trial::run(Kind::Subvolumes, [share(24), share(16), share(4)]);
}

/// Layers of so many files that several threads make them: some of their calls, since the order differs from run to run.
#[test]
fn threads_survive_kills_and_errors_at_their_calls() {
    let shares = [16, 12, 4].map(Share::AtMost);
    trial::run_of(commands::WITH_THREADS, Kind::Overlay, shares);
}

/// No command is forgotten, and those that are not tried change nothing.
#[test]
fn every_other_command_changes_nothing() {
    reading::run();
}

/// All points of the commands by `STRATA_CRASH_WHOLE`, as `make all` sets it; else as many as there is time for.
fn share(most: usize) -> Share {
    let is_whole = std::env::var_os("STRATA_CRASH_WHOLE").is_some_and(|value| !value.is_empty());
    if is_whole {
        Share::All
    } else {
        Share::AtMost(most)
    }
}

/// The hook counts the calls that the kernel gets, and no others: with overlays.
#[test]
fn the_hook_counts_what_strace_sees_with_overlays() {
    counting::compare("overlay");
}

/// The same with copied directories.
#[test]
fn the_hook_counts_what_strace_sees_with_copies() {
    counting::compare("vfs");
}

/// The same in a plugin.
#[test]
fn the_hook_counts_what_strace_sees_in_a_plugin() {
    counting::compare_plugin();
}

/// A program without the hook, killed by strace.
#[test]
fn a_program_without_the_hook_survives_kills_by_strace() {
    counting::kill();
}
