//! Mounting a layer: which directories in which order, with which options.

use std::path::{Path, PathBuf};

use super::layout::{DIFF, EMPTY, WORK};
use super::mapping::{self, Shown};
use super::{Overlay, options, program};
use crate::archive::id_shift::IdMaps;
use crate::store::driver::{Driver as _, DriverError, Layers, MountOptions, Owners, Side, own};
use crate::sys::mount::Overlay as OverlayMount;
use crate::sys::{self, Dir};

/// What is to be mounted.
struct Plan {
    mount: OverlayMount,
    /// The layer's directory.
    layer: Dir,
    /// Keeps what of the layers below shows other owners.
    shown: Option<Shown>,
    /// The layers below, for messages.
    lowers: Vec<String>,
}

impl Overlay {
    fn plan(&self, id: &str, wanted: &MountOptions) -> Result<Plan, DriverError> {
        let layer = self.layer(id)?;
        let is_own = self.is_own(&layer);
        let lowers = self.lowers_of(id, &layer)?;
        if is_own {
            self.heal(id, &layer, &lowers)?;
        }
        let options::Options {
            mut flags,
            mut data,
        } = options::choose(&wanted.options, &self.mount_options, self.is_rootless)?;
        flags.read_only |= wanted.read_only || !is_own || self.is_elsewhere(&layer)?;
        flags.no_devices |= wanted.is_strict;
        flags.no_set_id |= wanted.is_strict;
        if self.program.is_some() && self.force_mask.is_some() {
            // What files are meant to be is in the attribute that peers have it in.
            data.push("xattr_permissions=2".to_owned());
        }
        let mut mount = OverlayMount {
            flags,
            options: data,
            context: wanted.label.clone().filter(|label| !label.is_empty()),
            ..OverlayMount::default()
        };
        let below = &mut mount.lowers;
        below.reserve(lowers.ids.len() + 2);
        self.directories(id, below)?;
        // A copy of all that is below, with the layer's own owners, hides it.
        let has_copy = below.len() > 1;
        let maps = match has_copy {
            true => None,
            false => self.maps_of_program(id, &wanted.owners)?,
        };
        if let Some(maps) = &maps {
            mount.options.extend(program::mappings(maps));
        }
        let below = &mut mount.lowers;
        if !flags.read_only {
            below.remove(0);
            mount.upper = Some((layer.path().join(DIFF), layer.path().join(WORK)));
            // The kernel refuses an upper that was mounted volatile before; whether its contents may be trusted is
            // for the caller to know.
            if wanted.is_exclusive && self.program.is_none() && is_in_use(&layer)? {
                return Err(DriverError::InUse(id.to_owned()));
            }
            layer.remove_tree("work/work/incompat/volatile")?;
            match self.program {
                Some(_) if maps.is_some() => self.disown_root(&layer, &wanted.owners)?,
                _ => self.own_root(&layer, &wanted.owners.own)?,
            }
            let has_volatile = mount.options.iter().any(|option| option == "volatile");
            if wanted.volatile && !has_volatile {
                mount.options.push("volatile".to_owned());
            }
        }
        let mut shown = match has_copy || self.program.is_some() {
            true => None,
            false => self.shown(id, &lowers.ids, &wanted.owners)?,
        };
        for (number, lower) in lowers.ids.iter().enumerate() {
            let start = below.len();
            self.directories(lower, below)?;
            if let Some(shown) = &mut shown
                && number < wanted.owners.layers
            {
                let home = self.home_of(lower)?.path();
                for path in &mut below[start..] {
                    *path = shown.path(home, path)?;
                }
            }
        }
        if below.is_empty() || (below.len() == 1 && flags.read_only) {
            below.push(layer.path().join(EMPTY));
        }
        if below.len() > self.max_lowers {
            return Err(DriverError::TooDeep {
                id: id.to_owned(),
                found: below.len(),
                limit: self.max_lowers,
            });
        }
        let lowers = lowers.ids;
        Ok(Plan {
            mount,
            layer,
            shown,
            lowers,
        })
    }

    /// How a program is to show the owners that are on disk, in the layer and below it; `None` when they are what they shall
    /// be. What it writes for a container has the owners that those below have.
    fn maps_of_program(&self, id: &str, owners: &Owners) -> Result<Option<IdMaps>, DriverError> {
        if self.program.is_none() || !owners.is_written || owners.own == owners.below {
            return Ok(None);
        }
        match self.shows_other_owners(&owners.own)? {
            true => Ok(Some(owners.below.to_other(&owners.own))),
            false => Err(DriverError::Unmappable(id.to_owned())),
        }
    }

    /// The root directory of a mapped container, which peers make the container's root's although a program will map it
    /// once more, gets its owner back.
    fn disown_root(&self, layer: &Dir, owners: &Owners) -> Result<(), DriverError> {
        let diff = layer.open_dir(DIFF)?;
        let stat = diff.stat_self()?;
        let owner = (stat.st_uid, stat.st_gid);
        let is_below = owners.below.to_container(owner.0, owner.1);
        let fits = is_below.and_then(|(uid, gid)| owners.own.to_host(uid, gid));
        let inside = owners.own.to_container(owner.0, owner.1);
        match inside.and_then(|(uid, gid)| owners.below.to_host(uid, gid)) {
            Some(owner) if fits.is_none() => own(&diff, owner, self.ignore_chown_errors),
            _ => Ok(()),
        }
    }

    /// What is needed to show the layers below with the layer's own owners; `None` when they have these.
    fn shown(
        &self,
        id: &str,
        lowers: &[String],
        owners: &Owners,
    ) -> Result<Option<Shown>, DriverError> {
        if owners.own == owners.below || lowers.is_empty() || owners.layers == 0 {
            return Ok(None);
        }
        if !self.mapping.works(&self.home)? {
            return Err(DriverError::Unmappable(id.to_owned()));
        }
        Ok(Some(self.mapping.shown(&owners.below, &owners.own)?))
    }

    /// Older peers make the root directory of a mapped container the machine's root's, and at creation so do all.
    fn own_root(&self, layer: &Dir, maps: &IdMaps) -> Result<(), DriverError> {
        if maps.is_identity() {
            return Ok(());
        }
        let diff = layer.open_dir(DIFF)?;
        let stat = diff.stat_self()?;
        let owner = (stat.st_uid, stat.st_gid);
        if maps.to_container(owner.0, owner.1).is_some() {
            return Ok(());
        }
        let mapped = maps.to_host(owner.0, owner.1).or(maps.to_host(0, 0));
        match mapped {
            Some(owner) => own(&diff, owner, self.ignore_chown_errors),
            None => Ok(()),
        }
    }

    /// Mounts what is planned. Kernels before 6.15 build overlays only of mounts that have a place, so where they must,
    /// the copies that show other owners get one for the moment.
    fn carry_out<T>(
        plan: &mut Plan,
        mount: impl Fn(&OverlayMount) -> Result<T, sys::Error>,
    ) -> Result<T, sys::Error> {
        let result = mount(&plan.mount);
        let Some(shown) = &plan.shown else {
            return result;
        };
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            result => return result,
        }
        let attached = shown.attach(&plan.layer, &mut plan.mount.lowers);
        let result = attached.and_then(|()| mount(&plan.mount));
        mapping::release(&plan.layer)?;
        result
    }

    /// Mounts a layer, making the place when it is missing.
    pub(super) fn mount_layer(
        &self,
        id: &str,
        at: &Path,
        options: &MountOptions,
    ) -> Result<PathBuf, DriverError> {
        if self.is_at(at)? {
            // Of somebody who died before it was recorded. A second one would share its upper directory; peers take
            // what is there as well.
            return Ok(at.to_owned());
        }
        let mut plan = self.plan(id, options)?;
        let home = self.home.path();
        if at.starts_with(home) && !self.skip_mount_home && !sys::mount::is_mount_point(home)? {
            // As every Go tool does at its first call: that would hide a mount made before it, and the
            // tool would mount the same upper directory a second time.
            sys::mount::make_private(home)?;
        }
        // Older peers remove the mount point when they unmount; and it must be there before the overlay
        // is made: a volatile one that can't be attached leaves its mark and can't be made again.
        Dir::ensure_path(at, 0o700)?;
        let mounted = match &self.program {
            Some(program) => program.mount(&plan.mount, at),
            None => Self::carry_out(&mut plan, |mount| sys::mount::overlay(mount, at)),
        };
        match mounted {
            Ok(()) => Ok(at.to_owned()),
            Err(error) => self.explain(&plan, error),
        }
    }

    /// Names the layer that is missing, when that is why the kernel refused.
    fn explain<T>(&self, plan: &Plan, error: sys::Error) -> Result<T, DriverError> {
        if error.is_not_found()
            && let Some(missing) = self.missing(&plan.lowers)?
        {
            return Err(DriverError::Missing(missing.to_owned()));
        }
        Err(error.into())
    }

    /// The whole tree of a layer, mounted read-only nowhere: it ends with the returned directory.
    pub(super) fn view(&self, layer: &Side) -> Result<Dir, DriverError> {
        let options = MountOptions {
            read_only: true,
            owners: layer.owners.clone(),
            ..MountOptions::default()
        };
        let id = &*layer.id;
        let mut plan = self.plan(id, &options)?;
        plan.mount.context = None;
        let path = self.home_of(id)?.path().join(id);
        let viewed = match &self.program {
            Some(program) => program.view(&plan.mount),
            None => Self::carry_out(&mut plan, |mount| sys::mount::overlay_view(mount, &path)),
        };
        match viewed {
            Ok(view) => Ok(view),
            Err(error) => self.explain(&plan, error),
        }
    }
}

/// True when some overlay is still alive whose upper directory is the layer's: a mount that was taken out of sight lives on
/// while a process is in it, and a second one over the same files would tear them.
///
/// An overlay that keeps an index refuses directories that another one works in, its work directory among them. So
/// one is made, without a place, for which the layer's work directory is the upper one.
pub(super) fn is_in_use(layer: &Dir) -> Result<bool, sys::Error> {
    const PROBE: &str = "probe";
    layer.remove_tree(PROBE)?;
    let probe = layer.ensure_dir(PROBE, 0o700)?;
    for name in ["lower", "work"] {
        probe.create_dir(name, 0o700)?;
    }
    let path = |name: &str| probe.path().join(name);
    let overlay = OverlayMount {
        lowers: vec![path("lower")],
        upper: Some((layer.path().join(WORK), path("work"))),
        options: vec!["index=on".to_owned(), "volatile".to_owned()],
        ..OverlayMount::default()
    };
    let is_busy = match sys::mount::overlay_view(&overlay, layer.path()) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => true,
        Err(error) => {
            // A kernel or a file system without indexes can't be asked.
            tracing::debug!(%error, "whether a layer is in use is not known");
            false
        }
    };
    layer.remove_tree(PROBE)?;
    Ok(is_busy)
}
