//! What the tests with real programs, the demonstration and the benchmark share.
//!
//! | File | What |
//! |---|---|
//! | [`scratch`] | a temporary directory that is unmounted and removed whatever happens |
//! | [`disk`] | a file system of its own, made in a file |
//! | [`tool`] | other programs: found or a failure that says how to install them; run and checked |
//! | [`image`] | OCI layouts, written by hand or by umoci |
//! | [`registry`] | a real registry on a free loopback port, and pushing to it |
//! | [`server`] | a registry in this process that misbehaves on demand; `uploads`: what it takes |
//! | [`http`] | the little HTTP that pushing and looking at metrics need |
//! | [`plugin`] | `strata node` as a child process, and its gRPC clients |
//! | [`standing`] | what a store has on disk, to be compared |

#![allow(
    dead_code,
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each user takes a part; helpers of tests fail by panicking and run programs"
)]

pub mod disk;
pub mod http;
pub mod image;
#[cfg(feature = "node")]
pub mod plugin;
pub mod registry;
pub mod scratch;
pub mod server;
#[cfg(feature = "node")]
pub mod standing;
pub mod tool;
mod uploads;
