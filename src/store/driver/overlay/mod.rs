//! The overlay driver: a layer is the difference to its parent; the kernel lays them over each other.
//!
//! | File | What |
//! |---|---|
//! | [`layout`] | the files of a layer in the home |
//! | `layers` | finding and reading layers; what each changes |
//! | `root` | the root directory of a layer's contents |
//! | `leftovers` | what peers that died have left in the home |
//! | `elsewhere` | layers whose contents are in an additional layer store |
//! | `lowers` | which layers lie below; healing what says so |
//! | `mount` | from a layer to a mounted directory |
//! | `mapping` | layers below that show other owners |
//! | `mounted` | which layers are mounted, by the mount table |
//! | `options` | mount options, sorted |
//! | `quota` | how much a container may write |
//! | `probe` | what the kernel does by itself |
//! | `program` | mounting by a program in the kernel's place |

mod elsewhere;
mod layers;
pub mod layout;
mod leftovers;
mod lowers;
mod mapping;
mod mount;
mod mounted;
mod options;
mod probe;
mod program;
mod quota;
mod root;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Below, Driver, DriverError, DriverKind, DriverOptions, Layers, MountOptions, PrepareOptions,
    Role, Roots, Side, copy_unchanged, home,
};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::{Whiteouts, inherit, reown};
use crate::sys::tree::Copied;
use crate::sys::{self, Dir};
use elsewhere::LayerStores;
use layout::{DIFF, EMPTY, LINK, LINKS, LOWER, LOWER_LAYERS, MERGED, OLD_DIFF, WORK};
use lowers::Chain;
use mapping::Mapping;
use program::MountProgram;
use quota::Quota;

/// Says whether a mount program has made the home's layers, whose marks the kernel does not know.
const HAS_MOUNT_PROGRAM: &str = ".has-mount-program";

/// The mode of everything where nobody but root of a user name space may look at it.
const PRIVATE: u32 = 0o700;

/// The driver and its home, `<graph root>/overlay`.
#[derive(Debug)]
pub struct Overlay {
    home: Dir,
    links: Dir,
    graph_path: PathBuf,
    /// Where layers of a home that can't be written are mounted.
    read_only_mounts: Option<PathBuf>,
    /// The homes of additional stores.
    others: Vec<Dir>,
    additional: Vec<PathBuf>,
    mount_options: Vec<String>,
    skip_mount_home: bool,
    ignore_chown_errors: bool,
    max_lowers: usize,
    is_rootless: bool,
    /// Mounts show no other owners, whoever makes them.
    copies_owners: bool,
    mapping: Mapping,
    program: Option<MountProgram>,
    /// The mode of all that is unpacked.
    force_mask: Option<u32>,
    quota: Quota,
    layer_stores: LayerStores,
    /// Layers that this process made or healed.
    whole: Mutex<HashSet<String>>,
    chains: Mutex<HashMap<String, Arc<Chain>>>,
}

impl Overlay {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it can't be opened or made, its file system can't carry an overlay's upper directory, or a mount program
    /// has made its layers.
    pub fn open(roots: &Roots<'_>, options: DriverOptions) -> Result<Self, DriverError> {
        // Asked before the home is made, which would decide for this driver the next time.
        let place = match roots.graph.find_dir("overlay")? {
            Some(home) => home,
            None => roots.graph.try_clone()?,
        };
        let is_new = place.stat(LINKS)?.is_none();
        let has_program = place.find(HAS_MOUNT_PROGRAM)?;
        let has_program = has_program.as_deref().map(<[u8]>::trim_ascii);
        let is_on_overlay = is_new && sys::mount::is_on_overlay(&place)?;
        let is_unusable = is_on_overlay || is_new && !sys::mount::has_overlay();
        let views = roots.run_path.join("strata/views");
        let program = match options.mount_program.clone() {
            Some(path) => Some(MountProgram::new(path, views)?),
            None if is_unusable || has_program == Some(b"true") => MountProgram::find(views),
            None => None,
        };
        if is_on_overlay && program.is_none() {
            return Err(DriverError::Prerequisites(format!(
                "{} is itself on an overlay, which can't carry another: use a directory of ext4, xfs \
                 or btrfs, or install fuse-overlayfs",
                roots.graph_path.display()
            )));
        }
        let quota = match roots.is_for_images || roots.is_read_only {
            true => Quota::default(),
            false => Quota::open(&place, &options)?,
        };
        let is_rootless = sys::userns::is_rootless()?;
        let mut force_mask = options.force_mask;
        if force_mask.is_none()
            && program.is_some()
            && is_rootless
            && sys::mount::is_on_network(&place)?
        {
            tracing::warn!(
                "{} is on a network file system, where owners are not ours to give: force_mask=private is in force; \
                 configure it to silence this",
                roots.graph_path.display()
            );
            force_mask = Some(PRIVATE);
        }
        let home = roots.graph.ensure_dir("overlay", 0o700)?;
        match (has_program, &program) {
            (Some(b"true"), None) => {
                return Err(DriverError::Prerequisites(format!(
                    "the layers in {} were made by a mount program: install fuse-overlayfs, or configure mount_program, as \
                     overlay.mount_program=/usr/bin/fuse-overlayfs",
                    home.path().display()
                )));
            }
            (Some(b"true"), Some(_)) => {}
            (_, Some(_)) => {
                home.replace(HAS_MOUNT_PROGRAM, b"true", sys::Durability::Atomic)?;
            }
            // Peers would else walk the whole home to find out.
            (None, None) if is_new => {
                home.create_whole(HAS_MOUNT_PROGRAM, b"false", 0o600)?;
            }
            _ => {}
        }
        // The last: the home is new until it has them.
        let links = home.ensure_dir(LINKS, 0o755)?;
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
            read_only_mounts: roots.is_read_only.then(|| roots.run_path.join("overlay")),
            others,
            additional,
            mount_options: options.mount_options,
            skip_mount_home: options.skip_mount_home,
            ignore_chown_errors: options.ignore_chown_errors,
            max_lowers: options.max_lowers,
            is_rootless,
            copies_owners: roots.no_id_mapped_mounts,
            mapping: Mapping::new(roots.no_id_mapped_mounts),
            program,
            force_mask,
            quota,
            layer_stores: LayerStores::open(options.layer_stores)?,
            whole: Mutex::default(),
            chains: Mutex::default(),
        })
    }

    fn homes(&self) -> impl Iterator<Item = &Dir> {
        std::iter::once(&self.home).chain(&self.others)
    }

    /// True for a layer of the home itself, which may be changed.
    fn is_own(&self, layer: &Dir) -> bool {
        self.read_only_mounts.is_none() && layer.path().parent() == Some(self.home.path())
    }

    fn whole(&self) -> MutexGuard<'_, HashSet<String>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_known_whole(&self, id: &str) -> bool {
        self.whole().contains(id)
    }

    fn note_whole(&self, id: &str) {
        self.whole().insert(id.to_owned());
    }

    fn release_quota(&self, trash: &Dir, name: &str) -> Result<(), DriverError> {
        let layer = trash.open_dir(name)?;
        self.quota.release(&self.home, trash, &layer)
    }

    fn rename(&self, from: &Dir, name: &str, to: &Dir, new: &str) -> Result<(), DriverError> {
        home::rename(&self.graph_path, from, name, to, new)
    }

    /// The short name that a prepared layer gets: that of an old directory of its ID, by which children know it.
    fn choose_short_name(
        &self,
        id: &str,
        prepared: &Dir,
        old: Option<&Dir>,
    ) -> Result<String, DriverError> {
        if let Some(old) = old
            && let Some(short) = self.known_short_name(id, old)?
            && self.belongs(&short, id)?
        {
            layout::replace(prepared, LINK, &short)?;
            return Ok(short);
        }
        layout::short_name(prepared)?
            .ok_or_else(|| layout::damaged(id, "its file link was not written"))
    }

    /// True when something that this driver mounts is at `at`.
    fn is_at(&self, at: &Path) -> Result<bool, sys::Error> {
        match self.program {
            None => sys::mount::is_overlay(at),
            Some(_) => sys::mount::is_mount_point(at),
        }
    }
}

fn write_lowers(at: &Dir, chain: &Chain) -> Result<[sys::File; 2], DriverError> {
    Ok([
        at.write_new(LOWER, chain.lower.as_bytes(), 0o644)?,
        at.write_new(LOWER_LAYERS, chain.lower_layers.as_bytes(), 0o644)?,
    ])
}

/// Makes the files and their names in `dir` durable.
fn sync_all(files: &[sys::File], dir: &Dir) -> Result<(), DriverError> {
    for file in files {
        file.start_writeback()?;
    }
    for file in files {
        file.sync_data()?;
    }
    Ok(dir.sync()?)
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
        if options.read_write && self.force_mask.is_some() && self.program.is_none() {
            return Err(DriverError::MaskNeedsProgram);
        }
        // What is made in it from here on belongs to its project.
        self.quota.limit(&self.home, at, options)?;
        at.create_dir(DIFF, 0o700)?;
        let mut files = Vec::with_capacity(3);
        let diff = at.open_dir(DIFF)?;
        if self.force_mask.is_some() || parent.is_none() || options.parent_comes_later {
            self.make_root(&diff, options.root)?;
        }
        match parent {
            Some(parent) if !options.parent_comes_later => {
                let chain = self.chain(parent)?;
                self.inherit_root(&diff, chain.root)?;
                files.extend(write_lowers(at, &chain)?);
            }
            Some(_) => {}
            None => at.create_dir(EMPTY, 0o700)?,
        }
        at.create_dir(WORK, 0o700)?;
        at.create_dir(MERGED, 0o700)?;
        if options.root != (0, 0) {
            // The container's root may then look into the directory; in a shared name space it need not.
            super::own(at, options.root, self.ignore_chown_errors)?;
            for name in [WORK, MERGED] {
                super::own(&at.open_dir(name)?, options.root, self.ignore_chown_errors)?;
            }
        }
        files.push(at.write_new(LINK, layout::new_short_name().as_bytes(), 0o644)?);
        if options.durable {
            sync_all(&files, at)
        } else {
            Ok(())
        }
    }

    fn prepare_copy(
        &self,
        at: &Dir,
        root: &Path,
        id: &str,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        check(id)?;
        let from = super::layer_of_another(root, "overlay", id)?;
        self.prepare(at, parent, options)?;
        // Children that stand on it already, through the additional store, know it by this name.
        if let Some(short) = layout::short_name(&from)? {
            layout::replace(at, LINK, &short)?;
        }
        copy_unchanged(id, &from.open_dir(DIFF)?, &at.open_dir(DIFF)?)
    }

    fn prepare_mapped(
        &self,
        at: &Dir,
        template: &Side,
        to: &IdMaps,
        role: Role,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        self.prepare(at, None, options)?;
        // What is copied is no more written by the container than what lies below others.
        let unlimited = self.quota.lift(&self.home, at, options)?;
        let shift = Shift {
            from: template.owners.own.clone(),
            to: to.clone(),
        };
        let view = self.view(template)?;
        let copied = match role {
            Role::Contents => reown::copy(&view, &at.open_dir(DIFF)?, &shift, self.force_mask)?,
            Role::Base => {
                // The older generation, as peers call it: it lies below the layer's own.
                at.create_dir(OLD_DIFF, 0o700)?;
                let base = at.open_dir(OLD_DIFF)?;
                let copied = reown::copy(&view, &base, &shift, self.force_mask)?;
                self.inherit_root(&at.open_dir(DIFF)?, root::meant(&base)?)?;
                copied
            }
        };
        if let Some(project) = unlimited {
            self.quota.limit_what_comes(&self.home, project, options)?;
        }
        if options.durable {
            at.sync_file_system()?;
        }
        Ok(copied)
    }

    fn shows_other_owners(&self, maps: &IdMaps) -> Result<bool, DriverError> {
        match self.program {
            Some(_) => Ok(!self.copies_owners && maps.is_contiguous()),
            None => Ok(self.mapping.works(&self.home)?),
        }
    }

    fn writes_as_below(&self) -> bool {
        self.program.is_some()
    }

    fn complete(&self, at: &Dir, parent: &str, inherit_root: bool) -> Result<(), DriverError> {
        let chain = self.chain(parent)?;
        if inherit_root {
            self.inherit_root(&at.open_dir(DIFF)?, chain.root)?;
        }
        sync_all(&write_lowers(at, &chain)?, at)
    }

    fn inherit(&self, at: &Dir, implied: &[Vec<u8>], below: &Below<'_>) -> Result<(), DriverError> {
        let options = inherit::Options {
            whiteouts: self.whiteouts(),
            shift: below.shift.clone(),
            ignore_chown_errors: self.ignore_chown_errors,
            force_mask: self.force_mask,
        };
        let lowers = self.directories_below(at, below)?;
        Ok(inherit::inherit(
            &at.open_dir(DIFF)?,
            implied,
            &lowers,
            &options,
        )?)
    }

    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError> {
        Ok(at.open_dir(DIFF)?)
    }

    fn whiteouts(&self) -> Whiteouts {
        match self.program {
            None => Whiteouts::Overlay {
                user_attributes: self.is_rootless,
            },
            Some(_) => Whiteouts::Files,
        }
    }

    fn ignores_chown_errors(&self) -> bool {
        self.ignore_chown_errors
    }

    fn force_mask(&self) -> Option<u32> {
        self.force_mask
    }

    fn stages_without_parent(&self) -> bool {
        true
    }

    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError> {
        check(id)?;
        let prepared = staging.open_dir(name)?;
        let old = self.home.find_dir(id)?;
        let short = self.choose_short_name(id, &prepared, old.as_ref())?;
        if old.is_some() {
            self.discard(id, staging, &format!("{name}.old"))?;
        }
        self.rename(staging, name, &self.home, id)?;
        match self.make_short_link(&short, id) {
            Ok(()) => {
                self.note_whole(id);
                Ok(())
            }
            Err(error) => {
                // The first error is the one to report; a directory that stays is garbage.
                drop(self.rename(&self.home, id, staging, name));
                Err(error)
            }
        }
    }

    fn sync_home(&self) -> Result<(), DriverError> {
        self.home.sync()?;
        Ok(self.links.sync()?)
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        check(id)?;
        let Some(layer) = self.home.find_dir(id)? else {
            return Ok(false);
        };
        // One that nobody recorded, as its maker died: it would move along and keep the trash busy for ever.
        let mount_point = self.default_mount_point(id);
        while self.is_at(&mount_point)? && sys::mount::unmount(&mount_point)? {}
        mapping::release(&layer)?;
        self.release_elsewhere(&layer)?;
        self.whole().remove(id);
        let short = self.known_short_name(id, &layer)?;
        if let Some(short) = &short
            && self.links.find_link(short)? == Some(layout::target(id))
        {
            self.links.remove_file_if_found(short)?;
        }
        if let Err(error) = self.rename(&self.home, id, trash, name) {
            if let Some(short) = &short {
                // The first error is the one to report; mounting heals a lost link.
                drop(self.make_short_link(short, id));
            }
            return Err(error);
        }
        // The layer is gone: what else a limit does is no reason to say that it is not.
        if let Err(error) = self.release_quota(trash, name) {
            tracing::warn!(%error, "the limit of a deleted layer stays");
        }
        Ok(true)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.mount_layer(id, at, options)
    }

    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        let has_metacopy = options::uses_metacopy(&self.mount_options, self.is_rootless);
        let has_whole_diffs = self.has_whole_diffs()?;
        let pairs = [
            (
                "Backing Filesystem",
                sys::mount::file_system_name(&self.home)?,
            ),
            ("Supports d_type", true.to_string()),
            ("Native Overlay Diff", has_whole_diffs.to_string()),
            ("Using metacopy", has_metacopy.to_string()),
            (
                "Supports shifting",
                self.shows_other_owners(&IdMaps::default())?.to_string(),
            ),
            ("Supports volatile", true.to_string()),
        ];
        Ok(pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }

    fn remove_leftovers(&self) -> Result<Vec<PathBuf>, DriverError> {
        self.remove_leftovers_of_peers()
    }

    fn tidy(&self, recorded: &HashSet<String>) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = self.remove_probes()?;
        removed.extend(self.remove_dangling_links(recorded)?);
        Ok(removed)
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        home::release(&self.graph_path, "overlay")
    }
}

fn check(id: &str) -> Result<(), DriverError> {
    match layout::is_layer_name(id) {
        true => Ok(()),
        false => Err(DriverError::Name(id.to_owned())),
    }
}
