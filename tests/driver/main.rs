//! The drivers with real directories and, for overlay, real mounts in a mount name space of each test's own.
//!
//! [`conformance`] is what every driver must do, [`places`] has it done on several file systems and without the rights
//! of the machine's root; [`btrfs`] is about btrfs, the other modules are about overlay. Mounts need root: without, the
//! tests fail.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make and inspect files by themselves"
)]

mod btrfs;
mod conformance;
mod damage;
mod elsewhere;
mod fixture;
mod layout;
mod limits;
mod masks;
mod mounts;
mod owners;
mod places;
#[path = "../support/mod.rs"]
mod support;
