//! The drivers with real directories and, for overlay, real mounts in a mount name space of each test's own.
//!
//! [`conformance`] is what every driver must do; the other modules are about overlay alone. Overlay needs root: without,
//! its tests fail.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make and inspect files by themselves"
)]

mod conformance;
mod damage;
mod fixture;
mod layout;
mod mounts;
mod owners;
