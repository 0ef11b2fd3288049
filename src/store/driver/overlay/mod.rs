//! The overlay driver: a layer is the difference to its parent; the kernel lays them over each other.
//!
//! | File | What |
//! |---|---|
//! | [`layout`] | the files of a layer in the home |
//! | `mount` | lowers, options, mounting |

pub mod layout;
mod mount;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Driver, DriverError, DriverKind, DriverOptions, MountOptions, PrepareOptions, Roots};
use crate::archive::changes::{self, Change, Tree};
use crate::archive::{Whiteouts, pack};
use crate::store::time::Time;
use crate::sys::{self, Dir};
use layout::{DIFF, EMPTY, LINK, LINKS, LOWER, LOWER_LAYERS, MERGED, NO_LAYERS, WORK};

/// The driver and its home, `<graph root>/overlay`.
#[derive(Debug)]
pub struct Overlay {
    home: Dir,
    links: Dir,
    graph_path: PathBuf,
    /// The homes of additional stores.
    others: Vec<Dir>,
    additional: Vec<PathBuf>,
    mount_options: Vec<String>,
    skip_mount_home: bool,
}

impl Overlay {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it can't be opened or made, or its file system can't carry an overlay's upper directory.
    pub fn open(roots: &Roots<'_>, options: DriverOptions) -> Result<Self, DriverError> {
        let home = roots.graph.ensure_dir("overlay", 0o700)?;
        let is_new = home.stat(LINKS)?.is_none();
        if is_new && sys::mount::is_on_overlay(&home)? {
            return Err(DriverError::Prerequisites(format!(
                "{} is itself on an overlay, which can't carry another: use a directory of ext4, xfs \
                 or btrfs",
                roots.graph_path.display()
            )));
        }
        let links = home.ensure_dir(LINKS, 0o755)?;
        if is_new && home.stat(".has-mount-program")?.is_none() {
            // Peers would else walk the whole home to find out.
            home.replace(".has-mount-program", b"false", sys::Durability::Atomic)?;
        }
        let mut additional = roots.additional.clone();
        additional.extend(options.additional_stores);
        let mut others = Vec::new();
        for root in &additional {
            others.extend(Dir::open(root)?.find_dir("overlay")?);
        }
        Ok(Self {
            home,
            links,
            graph_path: roots.graph_path.to_owned(),
            others,
            additional,
            mount_options: options.mount_options,
            skip_mount_home: options.skip_mount_home,
        })
    }

    /// The layer's directory, in the home or an additional one.
    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        for home in std::iter::once(&self.home).chain(&self.others) {
            if let Some(dir) = home.find_dir(id)? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    /// Renames within the graph root. Where a Go tool has bound the home over itself, the kernel takes
    /// home and staging area for two file systems: then inside a detached copy of the root's mount.
    fn rename(&self, from: &Dir, name: &str, to: &Dir, new: &str) -> Result<(), DriverError> {
        match from.rename_new(name, to, new) {
            Err(error) if error.errno() == Some(libc::EXDEV) => {
                let root = sys::mount::detached(&self.graph_path)?;
                let inside = |dir: &Dir| match dir.path().strip_prefix(&self.graph_path) {
                    Ok(below) => root.open_dir(below),
                    Err(_) => dir.try_clone(),
                };
                Ok(inside(from)?.rename_new(name, &inside(to)?, new)?)
            }
            result => Ok(result?),
        }
    }

    /// The `lower` and `lower-layers` of a child of `parent`.
    fn child_lowers(&self, parent: &str) -> Result<(String, String), DriverError> {
        let no_name = |id: &str| layout::damaged(id, "its file link is missing or malformed");
        let dir = self.layer(parent)?;
        let ids = self.lowers_of(parent, &dir)?;
        let mut names = vec![layout::short_name(&dir)?.ok_or_else(|| no_name(parent))?];
        match layout::lower_short_names(&dir)? {
            Some(known) if known.len() == ids.len() => names.extend(known),
            // Its file is missing or damaged: the ancestors themselves know their names.
            _ => {
                for id in &ids {
                    let name = layout::short_name(&self.layer(id)?)?;
                    names.push(name.ok_or_else(|| no_name(id))?);
                }
            }
        }
        let links: Vec<String> = names.iter().map(|name| format!("{LINKS}/{name}")).collect();
        let layers = std::iter::once(parent).chain(ids.iter().map(String::as_str));
        Ok((links.join(":"), layers.collect::<Vec<_>>().join(":")))
    }

    fn write_lowers(&self, at: &Dir, parent: &str, durable: bool) -> Result<(), DriverError> {
        let (lower, lower_layers) = self.child_lowers(parent)?;
        for (name, text) in [(LOWER, lower), (LOWER_LAYERS, lower_layers)] {
            let file = at.write_new(name, text.as_bytes(), 0o644)?;
            if durable {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Gives the root of a layer's contents the mode and owner that its parent's has.
    fn inherit_root(&self, diff: &Dir, parent: &str) -> Result<(), DriverError> {
        let stat = self.content(parent)?.stat_self()?;
        if (stat.st_uid, stat.st_gid) != (0, 0) {
            diff.set_owner("", stat.st_uid, stat.st_gid)?;
        }
        Ok(diff.set_mode(stat.st_mode & 0o7777)?)
    }

    /// Whole trees compared, as a layer has to be with one that is not the next below.
    fn changed(&self, id: &str, from: &str) -> Result<(Dir, Vec<Change>), DriverError> {
        let (new, old) = (self.view(id)?, self.view(from)?);
        let changes = changes::between(Some(&Tree::new(&old)), &Tree::new(&new))?;
        Ok((new, changes))
    }

    /// The contents of the layers below, nearest first.
    fn lower_contents(&self, id: &str) -> Result<Vec<Dir>, DriverError> {
        self.lowers(id)?
            .iter()
            .map(|lower| self.content(lower))
            .collect()
    }
}

impl Driver for Overlay {
    fn kind(&self) -> DriverKind {
        DriverKind::Overlay
    }

    fn additional_roots(&self) -> Vec<PathBuf> {
        self.additional.clone()
    }

    fn prepare(
        &self,
        at: &Dir,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        at.create_dir(DIFF, 0o700)?;
        let diff = at.open_dir(DIFF)?;
        match parent {
            Some(parent) if !options.parent_comes_later => {
                self.inherit_root(&diff, parent)?;
                self.write_lowers(at, parent, options.durable)?;
            }
            Some(_) => diff.set_mode(0o555)?,
            None => {
                diff.set_mode(0o555)?;
                at.create_dir(EMPTY, 0o700)?;
            }
        }
        at.create_dir(WORK, 0o700)?;
        at.create_dir(MERGED, 0o700)?;
        let link = at.write_new(LINK, layout::new_short_name().as_bytes(), 0o644)?;
        if options.durable {
            link.sync_data()?;
            at.sync()?;
        }
        Ok(())
    }

    fn complete(&self, at: &Dir, parent: &str, inherit_root: bool) -> Result<(), DriverError> {
        if inherit_root {
            self.inherit_root(&at.open_dir(DIFF)?, parent)?;
        }
        self.write_lowers(at, parent, true)?;
        Ok(at.sync()?)
    }

    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError> {
        Ok(at.open_dir(DIFF)?)
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Overlay {
            user_attributes: false,
        }
    }

    fn stages_without_parent(&self) -> bool {
        true
    }

    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError> {
        let prepared = staging.open_dir(name)?;
        if let Some(old) = self.home.find_dir(id)? {
            // Children that are there already know the layer by its old short name.
            if let Some(short) = layout::short_name(&old)? {
                prepared.replace(LINK, short.as_bytes(), sys::Durability::Atomic)?;
            }
            self.discard(id, staging, &format!("{name}.old"))?;
        }
        let short = layout::short_name(&prepared)?
            .ok_or_else(|| layout::damaged(id, "its file link was not written"))?;
        self.rename(staging, name, &self.home, id)?;
        let target = Path::new("..").join(id).join(DIFF);
        match self.links.symlink(&short, &target) {
            Err(error) if error.is_already_exists() => {
                self.links.remove_file(&short)?;
                Ok(self.links.symlink(&short, target)?)
            }
            result => Ok(result?),
        }
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        let Some(layer) = self.home.find_dir(id)? else {
            return Ok(false);
        };
        if let Some(short) = layout::short_name(&layer)? {
            self.links.remove_file_if_found(&short)?;
        }
        self.rename(&self.home, id, trash, name)?;
        Ok(true)
    }

    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        Ok(self.home.stat(id)?.is_some())
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        let entries = self.home.list()?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.file_type == rustix::fs::FileType::Directory)
            .filter_map(|entry| entry.name.into_string().ok())
            .filter(|name| !NO_LAYERS.contains(&name.as_str()))
            .collect())
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        for home in std::iter::once(&self.home).chain(&self.others) {
            if let Some(dir) = home.find_dir(Path::new(id).join(DIFF))? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    fn lowers(&self, id: &str) -> Result<Vec<String>, DriverError> {
        self.lowers_of(id, &self.layer(id)?)
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        let path = Path::new(OsStr::from_bytes(path));
        let first = match self.content(id)?.open_file_in_root(path) {
            Err(error) if error.is_not_found() => error,
            result => return Ok(result?),
        };
        for lower in self.lowers(id)? {
            match self.content(&lower)?.open_file_in_root(path) {
                Err(error) if error.is_not_found() => {}
                result => return Ok(result?),
            }
        }
        Err(first.into())
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        self.home.path().join(id).join(MERGED)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.mount_layer(id, at, options)
    }

    fn unmount(&self, _id: &str, at: &Path) -> Result<(), DriverError> {
        sys::mount::unmount(at)?;
        Ok(())
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        Ok(sys::mount::is_overlay(at)?)
    }

    fn changes(&self, id: &str, from: Option<&str>) -> Result<Vec<Change>, DriverError> {
        match from {
            None => Ok(changes::overlay(
                &self.content(id)?,
                &self.lower_contents(id)?,
            )?),
            Some(from) => Ok(self.changed(id, from)?.1),
        }
    }

    fn diff(&self, id: &str, from: Option<&str>, out: &mut dyn Write) -> Result<(), DriverError> {
        match from {
            None => {
                let lowers = self.lower_contents(id)?;
                let options = pack::Options {
                    overlay: Some(&lowers),
                    ..pack::Options::default()
                };
                pack::pack(&self.content(id)?, out, &options)?;
            }
            Some(from) => {
                let (new, changes) = self.changed(id, from)?;
                let now = Time::now().seconds().into();
                pack::pack_changes(&new, &changes, now, out, &pack::Options::default())?;
            }
        }
        Ok(())
    }

    fn diff_size(&self, id: &str, from: Option<&str>) -> Result<u64, DriverError> {
        match from {
            None => Ok(changes::size(&self.content(id)?)?),
            Some(from) => {
                let (new, changes) = self.changed(id, from)?;
                Ok(changes::size_of(&new, &changes)?)
            }
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        let has_metacopy = self
            .mount_options
            .iter()
            .any(|option| option == "metacopy=on");
        Ok(vec![
            (
                "Backing Filesystem".to_owned(),
                sys::mount::file_system_name(&self.home)?,
            ),
            ("Supports d_type".to_owned(), true.to_string()),
            (
                "Native Overlay Diff".to_owned(),
                (!has_metacopy).to_string(),
            ),
            ("Using metacopy".to_owned(), has_metacopy.to_string()),
            ("Supports shifting".to_owned(), false.to_string()),
            ("Supports volatile".to_owned(), true.to_string()),
        ])
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        // A peer may have bound the home over itself; its own shutdown takes that down as well.
        sys::mount::unmount(self.home.path())?;
        Ok(())
    }
}
