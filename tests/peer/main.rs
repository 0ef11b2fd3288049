//! The same store and the same images through other people's tools. Needs root and the peers
//! (`scripts/install test`); without them it fails.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod backup;
mod beside;
mod btrfs;
mod checking;
mod chunked;
mod cli;
mod committing;
mod demonstration;
mod descriptor;
mod elsewhere;
mod engines;
mod fixtures;
mod implied;
mod logins;
mod mappings;
mod masks;
mod own_image;
mod packed;
mod pulling;
mod read_only;
mod sanity;
mod shared;
mod storage_tools;
mod tars;
mod unshare;
mod volumes;
