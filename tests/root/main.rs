//! The real binary with real mounts. Needs root and what `scripts/install test` brings; without them it
//! fails.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod automatic;
mod bad_images;
mod bad_input;
mod full_disk;
mod full_layout;
mod held;
mod lanes;
mod logs;
mod node;
mod other_stores;
mod policies;
mod reboot;
mod registries;
mod retries;
mod statistics;
mod unrecorded;
mod upgrades;
mod volatile;
mod volumes;
