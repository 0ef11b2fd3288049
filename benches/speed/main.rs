//! `make bench`: Strata against the bare system calls and against its peers, as a table.
//!
//! | File | What |
//! |---|---|
//! | [`numbers`] | samples, percentiles, the table |
//! | [`floor`] | what the kernel alone takes for a publish and an unpublish |
//! | [`volumes`] | publish and unpublish over gRPC; many clients; the plugin at rest |
//! | [`cycle`] | create-container, mount, unmount, delete as four processes |
//! | [`library`], [`member`] | the same inside one process; many processes at once |
//! | [`lists`] | what commands that only look take in a large store, in time and memory |
//! | [`memory`] | the most that a program used |
//! | [`import`] | a large OCI layout into the store |
//! | [`layers`] | one layer into the store and back |
//!
//! Pairs are interleaved, on one file system, at the durability that the row names. Results are
//! compared for equality before anything is timed.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark prints, runs programs, and makes and inspects files"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod cycle;
mod floor;
mod import;
mod layers;
mod library;
mod lists;
mod member;
mod memory;
mod numbers;
mod volumes;

use std::path::PathBuf;

use numbers::Table;

/// The binary under test.
fn binary() -> PathBuf {
    support::plugin::binary(env!("CARGO_BIN_EXE_strata"))
}

/// How much is measured: `quick` is for trying the benchmark itself.
#[derive(Clone, Copy, Debug)]
struct Extent {
    pairs: usize,
    seconds: u64,
    volumes: usize,
    /// How many containers stand beside the measured one: some, and many.
    containers: [usize; 2],
    megabytes: usize,
    imports: usize,
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some((member::ROLE, rest)) = arguments.split_first().map(|(a, b)| (&**a, b)) {
        return member::run(rest);
    }
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    support::tool::require_root();
    let extent = if has("quick") {
        Extent {
            pairs: 20,
            seconds: 1,
            volumes: 50,
            containers: [50, 300],
            megabytes: 20,
            imports: 1,
        }
    } else {
        Extent {
            pairs: 300,
            seconds: 5,
            volumes: 1000,
            containers: [1000, 10_000],
            megabytes: 500,
            imports: 3,
        }
    };
    let all = !["volumes", "cycle", "import", "layers"]
        .iter()
        .any(|name| has(name));
    let mut table = Table::default();
    if all || has("volumes") {
        volumes::measure(extent, &mut table);
    }
    if all || has("cycle") {
        cycle::measure(extent, &mut table);
    }
    if all || has("import") {
        import::measure(extent, &mut table);
    }
    if all || has("layers") {
        layers::measure(extent, &mut table);
    }
    println!();
    print!("{table}");
    if table.has_missed() && !has("quick") {
        eprintln!("bench: a row is worse than what is promised");
        std::process::exit(1);
    }
}
