//! The plugin is killed before and after each call that changes something, started again, and asked
//! again as the kubelet does: every call succeeds in the end, and nothing is left over.
//!
//! Built with the feature `fault`, by `make test`. `STRATA_CRASH_SAMPLE=N` takes each N-th point only, `STRATA_CRASH_SEED`
//! repeats the random points of a run.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod leftovers;
mod points;
mod script;

use points::Points;
use script::Step;

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
