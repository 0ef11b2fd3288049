//! On the host: the record of each disk up to some points, and the look at what is there.

use std::fs::{self, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use super::log::Log;
use super::points::{self, Marked, Point, Replayed};
use super::{objects, record};
use crate::disk::Kind;
use crate::images;
use crate::ledger::Ledger;
use crate::life;
use crate::node::Node;
use crate::place;
use crate::report;
use crate::support::scratch::unmount_below;
use crate::support::tool::Tool;

/// `SEED COUNT FOLDER`: the folder has the disks as they are at the end, `ext4` and `xfs`, and their logs, `ext4.log` and
/// `xfs.log`. COUNT is that of each disk, or `every`.
pub fn run(arguments: &[String]) -> bool {
    let [seed, count, folder] = arguments else {
        panic!("replay SEED COUNT FOLDER");
    };
    let seed: u64 = seed.parse().expect("a number as seed");
    let count = count.parse().unwrap_or(usize::MAX);
    let registry = images::registry();
    images::make(&registry, record::PULLS);
    std::thread::scope(|scope| {
        let running = Kind::ALL.map(|kind| {
            scope.spawn(move || {
                let file = Path::new(folder).join(kind.name());
                Replay::new(kind, &file).run(seed, count)
            })
        });
        running.into_iter().fold(true, |all, thread| {
            let passed = thread.join().unwrap_or(false);
            all && passed
        })
    })
}

struct Replay {
    kind: Kind,
    log: Log,
    marked: Marked,
    durable: Replayed,
}

impl Replay {
    fn new(kind: Kind, disk: &Path) -> Self {
        let log = Log::open(&disk.with_extension("log"));
        let image = |name: &str| {
            let path = place::at("/run").join(format!("{name}-{}", kind.name()));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true);
            options.open(path).expect("an image can be made")
        };
        points::assert_complete(&log, &image("whole"), disk);
        Self {
            marked: Marked::of(&log),
            durable: Replayed::new(image("durable")),
            kind,
            log,
        }
    }

    fn run(mut self, seed: u64, count: usize) -> bool {
        let start = Instant::now();
        let every = self.marked.every_point(&self.log, seed);
        let all: usize = every.iter().map(Vec::len).sum();
        let points = points::sample(every, count.min(all), seed);
        let mut failed = Vec::new();
        for point in &points {
            self.durable.advance(&self.log, *point);
            if catch_unwind(AssertUnwindSafe(|| self.look(*point))).is_err() {
                failed.push(*point);
            }
            self.unmount();
        }
        let name = format!(
            "power lost at {} of {all} points, {} marks ({}, {:.1} s)",
            points.len(),
            self.marked.count(),
            self.kind.name(),
            start.elapsed().as_secs_f64()
        );
        if !failed.is_empty() {
            println!("vm: {}: lost or half there at {failed:?}", self.kind.name());
        }
        let failures = u32::try_from(failed.len()).expect("a count");
        let count = u32::try_from(points.len()).expect("a count");
        report::add(&name, count - failures, failures);
        failed.is_empty()
    }

    /// The disk as it is at the point, and whether the store on it has all that it should.
    fn look(&self, point: Point) {
        let ledger = self.marked.at(point);
        let (disk, device) = self.copy();
        points::complete(&disk, &self.log, point);
        drop(disk);
        let options = match self.kind {
            Kind::Ext4 => "loop",
            // The one before, which has the same, may not have let go yet.
            Kind::Xfs => "loop,nouuid",
        };
        let folder = self.kind.mount_with(&device, options);
        // Its disk is a new file each time.
        fs::remove_file(&device).expect("a mounted image can be removed");
        let log = format!("plugin-{}-{}.log", self.kind.name(), point.at);
        let mut node = Node::at(self.kind, &folder, &log, ledger);
        if !node.ledger.objects.is_empty() {
            objects::assert_kept(&node);
        }
        if has_volumes(&node.ledger) {
            life::after_a_cut(&mut node);
        }
    }

    /// After a boot nothing is mounted, and run roots are empty.
    fn unmount(&self) {
        unmount_below(&place::at("/disk").join(self.kind.name()));
        for run in [
            self.kind.name().to_owned(),
            format!("{}.objects", self.kind.name()),
            format!("{}.copy", self.kind.name()),
        ] {
            let run = place::at("/run/strata").join(run);
            unmount_below(&run);
            if run.exists() {
                fs::remove_dir_all(&run).expect("a run root can be removed");
            }
        }
    }

    fn copy(&self) -> (fs::File, std::path::PathBuf) {
        let path = place::at("/run").join(format!("lost-{}", self.kind.name()));
        let from = place::at("/run").join(format!("durable-{}", self.kind.name()));
        Tool::new("cp")
            .arg("--sparse=always")
            .arg(from)
            .arg(&path)
            .ok();
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("an image can be opened");
        (file, path)
    }
}

fn has_volumes(ledger: &Ledger) -> bool {
    !ledger.claims.is_empty()
        || !ledger.wanted.is_empty()
        || !ledger.inline.is_empty()
        || !ledger.pulls.is_empty()
}
