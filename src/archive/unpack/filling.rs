//! What a file gets once it is open: contents, owner, mode, attributes and times; of small files by a thread of its own.
//!
//! Names are made in the archive's order by whoever reads it. All that follows needs the open file alone, so it can
//! wait: a second thread does it while the next names are made. Whoever looks at files, or says something else about one
//! that is there (a hard link's header does), lets it catch up first: [`Filler::settle`].
//!
//! Files go over in batches, a few of which go round, so that neither memory nor descriptors grow with the archive. An
//! archive of few files needs no thread.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use super::attributes::{self, Attribute, Target};
use super::directories::Times;
use super::{Options, UnpackError};
use crate::sys::{Dir, Error, File};

/// Files of a batch.
const FILES: usize = 16;

/// Bytes of their contents; a file that has as many alone is filled while it is read.
const BYTES: usize = 256 * 1024;

/// Batches that go round: each keeps its files open, and many runs share the process's descriptors.
const BATCHES: usize = 3;

/// After so many files there is a thread.
const FEW: u64 = 512;

/// What an open file is to become.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) file: File,
    /// Nothing when new inodes have it anyway.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) times: Times,
}

impl Filling {
    /// Gives the file all but its contents; how many attributes were left out.
    pub(super) fn finish(self, options: &Options) -> Result<u64, UnpackError> {
        if let Some((uid, gid)) = self.owner {
            attributes::check_owner(options, self.file.set_owner(uid, gid))?;
        }
        if let Some(mode) = self.mode {
            self.file.set_mode(mode)?;
        }
        let skipped = attributes::set(options, &Target::File(&self.file), &self.attributes)?;
        let (accessed, modified) = self.times;
        self.file.set_times(accessed, modified)?;
        Ok(skipped)
    }
}

/// Small files and their contents.
#[derive(Debug, Default)]
struct Batch {
    /// Each with how long it is.
    files: Vec<(Filling, usize)>,
    contents: Vec<u8>,
    /// How many attributes were left out.
    skipped: u64,
}

impl Batch {
    fn carry_out(&mut self, options: &Options) -> Result<(), UnpackError> {
        let mut contents = self.contents.as_slice();
        for (mut filling, len) in self.files.drain(..) {
            let (own, rest) = contents.split_at(len);
            contents = rest;
            write(&mut filling.file, own)?;
            self.skipped += filling.finish(options)?;
        }
        self.contents.clear();
        Ok(())
    }
}

/// True for a file whose contents [`Filler::contents`] gathers.
pub(super) fn is_small(size: u64) -> bool {
    size < BYTES as u64
}

/// Appends to the contents of a file.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> Result<(), Error> {
    file.write_all(bytes)
        .map_err(|error| Error::new("write", file.path(), error))
}

/// The other thread.
#[derive(Debug)]
struct Filled {
    full: SyncSender<Batch>,
    done: Receiver<Result<Batch, UnpackError>>,
}

/// Fills small files, or lets them be filled.
#[derive(Debug)]
pub(super) struct Filler<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// Where the files are; for messages.
    root: &'env Dir,
    options: &'env Options,
    now: Batch,
    /// Batches that have come back.
    spare: Vec<Batch>,
    /// How many are under way.
    away: usize,
    /// How many files there were.
    files: u64,
    thread: Option<Filled>,
    /// How many attributes were left out.
    pub(super) skipped: u64,
}

impl<'scope, 'env> Filler<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        root: &'env Dir,
        options: &'env Options,
    ) -> Self {
        Self {
            scope,
            root,
            options,
            now: Batch::default(),
            spare: Vec::new(),
            away: 0,
            files: 0,
            thread: None,
            skipped: 0,
        }
    }

    /// Where the contents of the file go that [`Filler::add`] is called with next.
    pub(super) fn contents(&mut self) -> &mut Vec<u8> {
        &mut self.now.contents
    }

    /// Takes a file with the last `len` bytes of the contents.
    ///
    /// An error may be that of an earlier file.
    pub(super) fn add(&mut self, filling: Filling, len: usize) -> Result<(), UnpackError> {
        self.now.files.push((filling, len));
        self.files += 1;
        if self.files <= FEW {
            let result = self.now.carry_out(self.options);
            self.skipped += std::mem::take(&mut self.now.skipped);
            return result;
        }
        if self.now.files.len() == FILES || self.now.contents.len() >= BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), UnpackError> {
        let next = match self.spare.pop() {
            Some(spare) => spare,
            None if self.away + 1 < BATCHES => Batch::default(),
            None => self.take_back()?,
        };
        let batch = std::mem::replace(&mut self.now, next);
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.start()?,
        };
        // Nobody takes it after an error, which comes back instead.
        drop(thread.full.send(batch));
        self.away += 1;
        self.thread = Some(thread);
        Ok(())
    }

    fn start(&self) -> Result<Filled, UnpackError> {
        let (full, filled) = sync_channel::<Batch>(BATCHES);
        let (back, done) = sync_channel(BATCHES);
        let options = self.options;
        std::thread::Builder::new()
            .name("fill".into())
            .spawn_scoped(self.scope, move || {
                while let Ok(mut batch) = filled.recv() {
                    let result = batch.carry_out(options);
                    let is_over = result.is_err();
                    // Whoever does not wait for it has failed otherwise.
                    drop(back.send(result.map(|()| batch)));
                    if is_over {
                        return;
                    }
                }
            })
            .map_err(|error| Error::new("start a thread for", self.root.path(), error))?;
        Ok(Filled { full, done })
    }

    /// Waits for a batch to come back.
    fn take_back(&mut self) -> Result<Batch, UnpackError> {
        let come = self.thread.as_ref().map(|thread| thread.done.recv());
        let Some(Ok(result)) = come else {
            // It has ended with an error, which was told before.
            let over = std::io::ErrorKind::BrokenPipe;
            return Err(Error::new("fill files in", self.root.path(), over).into());
        };
        self.away -= 1;
        let mut batch = result?;
        self.skipped += std::mem::take(&mut batch.skipped);
        Ok(batch)
    }

    /// Waits until all files are what they are to become.
    pub(super) fn settle(&mut self) -> Result<(), UnpackError> {
        if !self.now.files.is_empty() {
            self.hand_over()?;
        }
        while self.away > 0 {
            let batch = self.take_back()?;
            self.spare.push(batch);
        }
        Ok(())
    }
}
