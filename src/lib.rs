//! Strata publishes container read-write layers as volumes.
//!
//! The library is layered; each module may use only those below it.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and inspect files by themselves"
    )
)]

pub mod archive;
#[cfg(feature = "node")]
pub mod cli;
pub mod digest;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "registry")]
pub mod oci;
pub mod store;
pub mod sys;
#[cfg(feature = "node")]
pub mod telemetry;
