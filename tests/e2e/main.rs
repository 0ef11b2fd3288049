//! A real kubelet, the chart, and pods: everything through `kubectl` and `helm`, asserted from inside the pods and by
//! the texts of events. Runs inside the node of a cluster that `tests/e2e/cluster/up` has started (`make e2e`, or
//! `make cluster` and then `scripts/run-e2e NAME`); without one every test fails and says so.
//!
//! One test at a time: most of them break something that all pods of the node share.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make and inspect files, and run programs, by themselves"
)]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod chart;
mod claims;
mod cluster;
mod disturbed;
mod events;
mod images;
mod inline;
mod leftovers;
mod node_checks;
mod pod;
mod private;
mod readme;
mod rendered;
mod rights;
mod speed;
mod stage;
mod told;
mod uninstall;
