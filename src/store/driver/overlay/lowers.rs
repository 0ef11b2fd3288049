//! Which layers lie below: reading what peers and crashes left, and healing it.
//!
//! `lower-layers` decides. Where it is missing, empty or malformed, `lower` does, through the short links, and through
//! the files `link` where a short link is lost. Newer peers repair none of this and older ones only a part.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rustix::fs::{FileType, Stat};

use super::layout::{self, COMPOSEFS, DIFF, EMPTY, LINK, LINKS, LOWER, LOWER_LAYERS};
use super::{Overlay, root};
use crate::archive::override_stat::OverrideStat;
use crate::store::driver::{Below, DriverError, Layers};
use crate::sys::Dir;

/// What the children of a layer have in common. It is read once for as long as the layer's `diff` is the same directory,
/// as many volumes have one image.
#[derive(Debug)]
pub(super) struct Chain {
    /// Which state of the layer's `diff`: inode and time of change.
    diff: (u64, i64, u64),
    /// The text of their `lower`.
    pub(super) lower: String,
    /// The text of their `lower-layers`.
    pub(super) lower_layers: String,
    /// What their root directories are like.
    pub(super) root: OverrideStat,
}

/// Chains of this many layers are remembered.
const MAX_CHAINS: usize = 1024;

/// The layers below one.
#[derive(Debug)]
pub(super) struct Lowers {
    /// Nearest first.
    pub(super) ids: Vec<String>,
    /// They were in `lower-layers`.
    is_listed: bool,
}

impl Overlay {
    /// The layers below `id`, whose directory is `layer`.
    pub(super) fn lowers_of(&self, id: &str, layer: &Dir) -> Result<Lowers, DriverError> {
        if let Some(ids) = layout::lower_layers(layer)? {
            let is_listed = true;
            return Ok(Lowers { ids, is_listed });
        }
        let ids = match layout::lower_short_names(layer)? {
            Some(names) => names
                .iter()
                .map(|name| self.layer_of_short_name(id, name))
                .collect::<Result<_, _>>()?,
            None => {
                let had_parent =
                    layer.stat(LOWER)?.is_some() || layer.stat(LOWER_LAYERS)?.is_some();
                if had_parent || layer.stat(EMPTY)?.is_none() {
                    let reason = "neither lower-layers nor lower can be read";
                    return Err(layout::damaged(id, reason));
                }
                Vec::new()
            }
        };
        let is_listed = ids.is_empty();
        Ok(Lowers { ids, is_listed })
    }

    fn layer_of_short_name(&self, child: &str, short: &str) -> Result<String, DriverError> {
        for home in self.homes() {
            if let Some(id) = layout::follow(home, short)? {
                return Ok(id);
            }
        }
        for id in self.list()? {
            let name = self.home.find(Path::new(&id).join(LINK))?;
            if name.as_deref() == Some(short.as_bytes()) {
                return Ok(id);
            }
        }
        let reason = format!("no layer has the short name {short}");
        Err(layout::damaged(child, reason))
    }

    /// What a child of `parent` gets from it: its lists, and what its root directory shall be like.
    pub(super) fn chain(&self, parent: &str) -> Result<Arc<Chain>, DriverError> {
        let stat = self.stat_diff(parent)?;
        let diff = (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        let lock = || self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chain) = lock().get(parent).filter(|chain| chain.diff == diff) {
            return Ok(Arc::clone(chain));
        }
        let (lower, lower_layers) = self.child_lowers(parent)?;
        let chain = Arc::new(Chain {
            diff,
            lower,
            lower_layers,
            root: root::meant(&self.content(parent)?)?,
        });
        let mut chains = lock();
        if chains.len() >= MAX_CHAINS {
            chains.clear();
        }
        chains.insert(parent.to_owned(), Arc::clone(&chain));
        Ok(chain)
    }

    fn stat_diff(&self, id: &str) -> Result<Stat, DriverError> {
        super::check(id)?;
        let name = Path::new(id).join(DIFF);
        for home in self.homes() {
            match home.stat(&name)? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => return Ok(stat),
                Some(_) => {
                    if let Some(diff) = self.find_diff(home, id)? {
                        return Ok(diff.stat_self()?);
                    }
                }
                None => {}
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    fn child_lowers(&self, parent: &str) -> Result<(String, String), DriverError> {
        let dir = self.layer(parent)?;
        let mut ids = self.lowers_of(parent, &dir)?.ids;
        let mut names = vec![self.short_name(parent, &dir)?];
        match layout::lower_short_names(&dir)? {
            Some(known) if known.len() == ids.len() => names.extend(known),
            // Its file is missing or damaged: the ancestors themselves know their names.
            _ => names.extend(self.short_names(&ids)?),
        }
        ids.insert(0, parent.to_owned());
        if ids.len() > self.max_lowers {
            return Err(DriverError::TooDeep {
                id: format!("a child of {parent}"),
                found: ids.len(),
                limit: self.max_lowers,
            });
        }
        Ok((lower_text(&names), ids.join(":")))
    }

    fn short_names(&self, ids: &[String]) -> Result<Vec<String>, DriverError> {
        ids.iter()
            .map(|id| self.short_name(id, &self.layer(id)?))
            .collect()
    }

    /// The short name of a layer. One that is missing, malformed or another layer's is replaced.
    fn short_name(&self, id: &str, layer: &Dir) -> Result<String, DriverError> {
        let is_ours = self.is_own(layer);
        if let Some(short) = layout::short_name(layer)?
            && (!is_ours || self.belongs(&short, id)?)
        {
            return Ok(short);
        }
        if !is_ours {
            let reason = "its file link is missing or malformed";
            return Err(layout::damaged(id, reason));
        }
        let short = match self.short_link_to(id)? {
            Some(short) => short,
            None => {
                let short = layout::new_short_name();
                self.make_short_link(&short, id)?;
                short
            }
        };
        layout::replace(layer, LINK, &short)?;
        Ok(short)
    }

    /// The short name of a layer, or where its file was torn by a power cut the one whose link leads to it.
    pub(super) fn known_short_name(
        &self,
        id: &str,
        layer: &Dir,
    ) -> Result<Option<String>, DriverError> {
        match layout::short_name(layer)? {
            Some(short) => Ok(Some(short)),
            None => self.short_link_to(id),
        }
    }

    /// True when no other layer has this short name.
    pub(super) fn belongs(&self, short: &str, id: &str) -> Result<bool, DriverError> {
        match self.links.find_link(short)? {
            None => Ok(true),
            Some(target) => Ok(target == layout::target(id)),
        }
    }

    fn short_link_to(&self, id: &str) -> Result<Option<String>, DriverError> {
        let target = layout::target(id);
        for entry in self.links.list()? {
            let Some(short) = entry
                .name
                .to_str()
                .filter(|name| layout::is_short_name(name))
            else {
                continue;
            };
            if self.links.find_link(short)?.as_ref() == Some(&target) {
                return Ok(Some(short.to_owned()));
            }
        }
        Ok(None)
    }

    /// Makes a short link; one that is there already must be the layer's own, or that of a layer that is gone.
    pub(super) fn make_short_link(&self, short: &str, id: &str) -> Result<(), DriverError> {
        let target = layout::target(id);
        match self.links.symlink(short, &target) {
            Err(error) if error.is_already_exists() => {}
            result => return Ok(result?),
        }
        match layout::follow(&self.home, short)? {
            Some(found) if found == id => return Ok(()),
            Some(found) if self.home.stat(&found)?.is_some() => {
                let reason = format!("its short name {short} is that of layer {found}");
                return Err(layout::damaged(id, reason));
            }
            _ => {}
        }
        self.links.remove_file_if_found(short)?;
        Ok(self.links.symlink(short, target)?)
    }

    /// Writes what the layer's directory lost.
    ///
    /// A layer is looked at once in the life of a process, unless its list can't be read: our own writes are whole.
    ///
    /// LOCKS: layers, exclusive.
    pub(super) fn heal(&self, id: &str, layer: &Dir, lowers: &Lowers) -> Result<(), DriverError> {
        if lowers.is_listed && self.is_known_whole(id) {
            return Ok(());
        }
        let short = self.short_name(id, layer)?;
        self.make_short_link(&short, id)?;
        let ids = &lowers.ids;
        if ids.is_empty() {
            self.note_whole(id);
            return Ok(());
        }
        match layout::lower_short_names(layer)? {
            Some(names) if names.len() == ids.len() => {
                for (name, lower) in names.iter().zip(ids) {
                    let is_lost = !lowers.is_listed && self.links.find_link(name)?.is_none();
                    if is_lost && self.home.stat(lower)?.is_some() {
                        self.make_short_link(name, lower)?;
                    }
                }
            }
            _ => {
                let text = lower_text(&self.short_names(ids)?);
                layout::replace(layer, LOWER, &text)?;
            }
        }
        if !lowers.is_listed {
            layout::replace(layer, LOWER_LAYERS, &ids.join(":"))?;
        }
        self.note_whole(id);
        Ok(())
    }

    /// The directories of a lower layer: its `diff`, then its older generations.
    pub(super) fn directories(&self, id: &str, into: &mut Vec<PathBuf>) -> Result<(), DriverError> {
        let home = self.home_of(id)?;
        refuse_composefs(home, id)?;
        let layer = home.path().join(id);
        into.push(layer.join(DIFF));
        let older = generations(home, Path::new(id))?;
        into.extend(older.into_iter().map(|name| home.path().join(name)));
        Ok(())
    }

    /// The directories below the layer in `at`, nearest first.
    pub(super) fn directories_below(
        &self,
        at: &Dir,
        below: &Below<'_>,
    ) -> Result<Vec<Dir>, DriverError> {
        let mut dirs = Vec::new();
        for (number, layer) in std::iter::once(at).chain(below.prepared).enumerate() {
            if number > 0 {
                dirs.push(layer.open_dir(DIFF)?);
            }
            for name in generations(layer, Path::new(""))? {
                dirs.push(layer.open_dir(name)?);
            }
            if layer.stat(EMPTY)?.is_some() {
                return Ok(dirs);
            }
        }
        let Some(nearest) = below.layer else {
            return Ok(dirs);
        };
        let mut paths = Vec::new();
        self.directories(nearest, &mut paths)?;
        for id in self.lowers(nearest)? {
            self.directories(&id, &mut paths)?;
        }
        for path in paths {
            dirs.push(Dir::open(path)?);
        }
        Ok(dirs)
    }

    /// The home that has the layer. Without additional stores there is nothing to look for: when the mount fails,
    /// [`Overlay::missing`] finds out which layer it was.
    pub(super) fn home_of(&self, id: &str) -> Result<&Dir, DriverError> {
        if self.others.is_empty() {
            return Ok(&self.home);
        }
        for home in self.homes() {
            if home.stat(id)?.is_some() {
                return Ok(home);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    /// The first of these that has no directory.
    pub(super) fn missing<'a>(&self, ids: &'a [String]) -> Result<Option<&'a str>, DriverError> {
        for id in ids {
            match self.content(id) {
                Err(DriverError::Missing(_)) => return Ok(Some(id)),
                result => drop(result?),
            }
        }
        Ok(None)
    }
}

/// A composefs must not be taken for the files that its parts are in.
pub(super) fn refuse_composefs(home: &Dir, id: &str) -> Result<(), DriverError> {
    match home.stat(Path::new(id).join(COMPOSEFS))? {
        None => Ok(()),
        Some(_) => Err(DriverError::Composefs(id.to_owned())),
    }
}

/// The older generations of the layer `name` in `dir`, newest first, as Go leaves them when it gives a layer other
/// owners.
fn generations(dir: &Dir, name: &Path) -> Result<Vec<PathBuf>, DriverError> {
    let mut found = Vec::new();
    loop {
        let older = name.join(format!("{DIFF}{}", found.len() + 1));
        if dir.stat(&older)?.is_none() {
            return Ok(found);
        }
        found.push(older);
    }
}

fn lower_text(names: &[String]) -> String {
    let links: Vec<String> = names.iter().map(|name| format!("{LINKS}/{name}")).collect();
    links.join(":")
}
