//! Where the power is lost, and what the disk has by then.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log::Log;
use super::mark;
use crate::chance::Chance;
use crate::ledger::Ledger;

/// A disk that loses power keeps or loses what was written since the last flush in pieces of this size.
const PIECE: usize = 4096;

/// What the disk has of the writes that no flush has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    Nothing,
    /// Whole requests, by chance.
    Requests(u64),
    /// Blocks of them, by chance.
    Blocks(u64),
}

/// A moment: so many entries of the log were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub at: usize,
    pub kept: Kept,
}

/// What is known by the marks of a log.
pub struct Marked {
    /// Numbers of entries, and what they say.
    marks: Vec<(usize, Ledger)>,
}

impl Marked {
    pub fn of(log: &Log) -> Self {
        let entries = log.entries.iter().enumerate();
        let marks: Vec<_> = entries
            .filter_map(|(number, entry)| Some((number, mark::read(log, entry)?)))
            .collect();
        assert!(marks.len() > 10, "only {} marks", marks.len());
        Self { marks }
    }

    /// What was acknowledged, and asked for, at a point.
    pub fn at(&self, point: Point) -> Ledger {
        let after = self.marks.partition_point(|(number, _)| *number < point.at);
        self.marks[after - 1].1.clone()
    }

    pub fn count(&self) -> usize {
        self.marks.len()
    }

    /// Every acknowledgement and every flush, with nothing but what was flushed; and between each two flushes as many
    /// random subsets.
    pub fn every_point(&self, log: &Log, seed: u64) -> [Vec<Point>; 3] {
        let first = self.marks[0].0 + 1;
        let mut chance = Chance::new(seed);
        let acknowledged = self.marks.iter().map(|(number, _)| Point {
            at: number + 1,
            kept: Kept::Nothing,
        });
        let flushes: Vec<usize> = (first..log.entries.len())
            .filter(|number| log.entries[*number].is_flush)
            .collect();
        let mut flushed = Vec::new();
        let mut between = Vec::new();
        let mut last = first;
        for flush in flushes {
            let writes = log.entries[last..flush].iter();
            if writes.clone().any(|entry| entry.length > 0) {
                flushed.push(Point {
                    at: flush + 1,
                    kept: Kept::Nothing,
                });
                let span = flush - last;
                let at = last + 1 + usize::try_from(chance.next()).expect("64 bits") % span;
                let seed = chance.next();
                let kept = if seed.is_multiple_of(2) {
                    Kept::Requests(seed)
                } else {
                    Kept::Blocks(seed)
                };
                between.push(Point { at, kept });
            }
            last = flush + 1;
        }
        [acknowledged.collect(), flushed, between]
    }
}

/// `count` of the points, as many of each sort; in the order of time.
pub fn sample(sorts: [Vec<Point>; 3], count: usize, seed: u64) -> Vec<Point> {
    let mut chance = Chance::new(seed ^ 0x5eed);
    let mut chosen = BTreeSet::new();
    for (number, mut sort) in sorts.into_iter().enumerate() {
        let share = (count + number) / 3;
        while chosen.len() < count && !sort.is_empty() {
            let at = usize::try_from(chance.next()).expect("64 bits") % sort.len();
            chosen.insert(sort.swap_remove(at));
            if chosen.len() >= share * (number + 1) {
                break;
            }
        }
    }
    chosen.into_iter().collect()
}

/// A disk image that follows the log.
pub struct Replayed {
    pub image: File,
    applied: usize,
}

impl Replayed {
    pub fn new(image: File) -> Self {
        image.set_len(mark::SIZE).expect("an image can be enlarged");
        Self { image, applied: 0 }
    }

    /// Applies all that was flushed before a point, or was durable by itself.
    pub fn advance(&mut self, log: &Log, point: Point) {
        let end = log.first_unflushed(point.at);
        for entry in &log.entries[self.applied.min(end)..end] {
            write(&self.image, entry.offset, &log.bytes(entry));
        }
        self.applied = self.applied.max(end);
    }
}

/// Applies what the disk keeps of the rest to an image that has been advanced to the point.
pub fn complete(image: &File, log: &Log, point: Point) {
    let mut chance = Chance::new(match point.kept {
        Kept::Nothing => 0,
        Kept::Requests(seed) | Kept::Blocks(seed) => seed,
    });
    for entry in &log.entries[log.first_unflushed(point.at)..point.at] {
        let bytes = log.bytes(entry);
        match point.kept {
            _ if entry.is_durable => write(image, entry.offset, &bytes),
            Kept::Nothing => {}
            Kept::Requests(_) => {
                if chance.next().is_multiple_of(2) {
                    write(image, entry.offset, &bytes);
                }
            }
            Kept::Blocks(_) => {
                let mut at = entry.offset;
                for piece in bytes.chunks(PIECE) {
                    if chance.next().is_multiple_of(2) {
                        write(image, at, piece);
                    }
                    at += piece.len() as u64;
                }
            }
        }
    }
}

/// The record is whole: all of it, applied to an empty image, gives the disk as it is.
pub fn assert_complete(log: &Log, image: &File, disk: &Path) {
    image.set_len(mark::SIZE).expect("an image can be enlarged");
    for entry in &log.entries {
        write(image, entry.offset, &log.bytes(entry));
    }
    let disk = File::open(disk).unwrap_or_else(|error| panic!("{}: {error}", disk.display()));
    let mut both = [vec![0; 1 << 20], vec![0; 1 << 20]];
    for at in (0..mark::SIZE).step_by(1 << 20) {
        let [one, other] = &mut both;
        image.read_exact_at(one, at).expect("an image can be read");
        disk.read_exact_at(other, at).expect("a disk can be read");
        assert!(
            one == other,
            "the record is not what is on the disk at {at}"
        );
    }
}

fn write(image: &File, offset: u64, bytes: &[u8]) {
    image
        .write_all_at(bytes, offset)
        .expect("an image can be written");
}
