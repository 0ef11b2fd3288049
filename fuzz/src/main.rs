//! Fuzz targets: one program, the target named by `STRATA_FUZZ_TARGET`. `scripts/run-fuzz` builds it with coverage
//! counters in Strata's own code and runs it; see there.
//!
//! | Target | Takes | Holds |
//! |---|---|---|
//! | [`tar`] | archives | every byte is accounted for; what is written again is the same |
//! | [`tar_split`] | recipes | what is written again is the same; archives are rebuilt to the byte |
//! | [`whiteouts`] | layers full of deletions and links | nothing outside the directory changes; what went in comes out |
//! | [`records`] | JSON files of layers, images, containers | what is written again is the same |
//! | [`config`] | `storage.conf` | it is understood or refused |
//! | [`references`] | names of images | what is printed is read as the same |
//! | [`grammar`] | command lines of the peer's | nothing is lost between flags and operands |
//!
//! With `STRATA_FUZZ_PLANT` in the environment each target has a bug more, which tries the fuzzing itself; see
//! [`plant`].

#![no_main]
#![allow(
    clippy::disallowed_methods,
    reason = "a fuzzer makes and inspects files by itself"
)]

mod archive;
mod config;
mod grammar;
mod plant;
mod records;
mod references;
mod tar;
mod tar_split;
mod whiteouts;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this run's own: what `scripts/run-fuzz` gives, or one by the process's number.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let given = std::env::var_os("STRATA_FUZZ_FOLDER");
        let folder = given.map_or_else(
            || std::env::temp_dir().join(format!("strata-fuzz-{}", std::process::id())),
            PathBuf::from,
        );
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        folder
    })
}

type Target = fn(&[u8]);

fn target() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("STRATA_FUZZ_TARGET").unwrap_or_default();
        match name.as_str() {
            "tar" => tar::run,
            "tar_split" => tar_split::run,
            "whiteouts" => whiteouts::run,
            "records" => records::run,
            "config" => config::run,
            "references" => references::run,
            "grammar" => grammar::run,
            _ => panic!("STRATA_FUZZ_TARGET={name}: there is no such target"),
        }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| target()(data));
