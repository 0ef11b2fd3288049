//! Integration tests through the public API and the built binary.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

mod architecture;
#[cfg(feature = "node")]
mod cli;
#[cfg(feature = "registry")]
mod oci;
mod store;
#[cfg(feature = "registry")]
#[path = "../support/mod.rs"]
mod support;
