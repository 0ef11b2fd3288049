//! Results, as lines of a file that outlives a power cut.

use std::fs::{File, OpenOptions};
use std::io::Write;

use super::place;

/// Adds a line: what it was, and how many tests of it passed and failed.
pub fn add(name: &str, passed: u32, failed: u32) {
    println!("vm: {name}: {passed} passed, {failed} failed");
    let folder = place::at("/out");
    let path = folder.join("results");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    writeln!(file, "{passed} {failed} {name}").expect("a result can be written");
    file.sync_all().expect("a result can be synced");
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .expect("the folder of results can be synced");
}
