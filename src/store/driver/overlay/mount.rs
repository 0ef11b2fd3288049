//! Mounting a layer: which directories in which order, with which options.

use std::path::{Path, PathBuf};

use super::Overlay;
use super::layout::{self, DIFF, EMPTY, LINK, LOWER, LOWER_LAYERS, WORK};
use crate::store::driver::{Driver, DriverError, MountOptions};
use crate::sys::mount::{Flags, Overlay as OverlayMount};
use crate::sys::{self, Dir, Durability};

/// The kernel refuses an overlay of more.
const MAX_LOWERS: usize = 500;

/// Splits options into properties of the mount and options of the file system.
fn split(options: &[String]) -> (Flags, Vec<String>) {
    let mut flags = Flags::default();
    let mut data = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags.read_only = true,
            "rw" => flags.read_only = false,
            "nodev" => flags.no_devices = true,
            "dev" => flags.no_devices = false,
            "nosuid" => flags.no_set_id = true,
            "suid" => flags.no_set_id = false,
            "noexec" => flags.no_exec = true,
            "exec" => flags.no_exec = false,
            "noatime" => flags.no_access_time = true,
            "atime" | "relatime" | "defaults" => {}
            _ => data.push(option.clone()),
        }
    }
    (flags, data)
}

impl Overlay {
    /// The IDs of the layers below, nearest first.
    ///
    /// From `lower-layers`; where that is missing or damaged, from `lower`, whose lost short links are
    /// looked for in the files `link` of the home.
    pub(super) fn lowers_of(&self, id: &str, layer: &Dir) -> Result<Vec<String>, DriverError> {
        if let Some(ids) = layout::lower_layers(layer)? {
            return Ok(ids);
        }
        if let Some(names) = layout::lower_short_names(layer)? {
            return names
                .iter()
                .map(|name| self.layer_of_short_name(id, name))
                .collect();
        }
        let has_parent = layer.stat(LOWER)?.is_some() || layer.stat(LOWER_LAYERS)?.is_some();
        if has_parent || layer.stat(EMPTY)?.is_none() {
            return Err(layout::damaged(
                id,
                "neither lower-layers nor lower can be read",
            ));
        }
        Ok(Vec::new())
    }

    fn layer_of_short_name(&self, child: &str, short: &str) -> Result<String, DriverError> {
        for home in std::iter::once(&self.home).chain(&self.others) {
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
        Err(layout::damaged(
            child,
            format!("no layer has the short name {short}"),
        ))
    }

    /// Writes what a layer's directory lost: the short link, and the lists of lowers. Peers repair
    /// neither.
    fn repair(&self, id: &str, layer: &Dir, lowers: &[String]) -> Result<(), DriverError> {
        if let Some(short) = layout::short_name(layer)?
            && self.links.find_link(&short)?.is_none()
        {
            let target = Path::new("..").join(id).join(DIFF);
            match self.links.symlink(&short, target) {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            }
        }
        if !lowers.is_empty() && layout::lower_layers(layer)?.is_none() {
            layer.replace(
                LOWER_LAYERS,
                lowers.join(":").as_bytes(),
                Durability::Durable,
            )?;
        }
        Ok(())
    }

    /// The directories of a lower layer: its `diff`, then its older generations.
    fn directories(&self, id: &str, into: &mut Vec<PathBuf>) -> Result<(), DriverError> {
        for home in std::iter::once(&self.home).chain(&self.others) {
            let layer = Path::new(id);
            if home.stat(layer.join(DIFF))?.is_none() {
                continue;
            }
            into.push(home.path().join(layer).join(DIFF));
            let mut generation = 1;
            while home
                .stat(layer.join(format!("{DIFF}{generation}")))?
                .is_some()
            {
                into.push(home.path().join(layer).join(format!("{DIFF}{generation}")));
                generation += 1;
            }
            return Ok(());
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    /// What is to be mounted.
    fn plan(&self, id: &str, options: &MountOptions) -> Result<OverlayMount, DriverError> {
        let layer = self.layer(id)?;
        let own = layer.path().starts_with(self.home.path());
        let lowers = self.lowers_of(id, &layer)?;
        if own {
            self.repair(id, &layer, &lowers)?;
        }
        let (mut flags, mut data) = match options.options.as_slice() {
            [] => split(&self.mount_options),
            given => split(given),
        };
        flags.read_only |= options.read_only || !own;
        let mut mount = OverlayMount {
            flags,
            ..OverlayMount::default()
        };
        let mut below = Vec::with_capacity(lowers.len() + 2);
        if flags.read_only {
            self.directories(id, &mut below)?;
        } else {
            let mut own_directories = Vec::new();
            self.directories(id, &mut own_directories)?;
            below.extend(own_directories.drain(1..));
            mount.upper = Some((layer.path().join(DIFF), layer.path().join(WORK)));
            // The kernel refuses an upper that was mounted volatile before; whether its contents may
            // be trusted is for the caller to know.
            layer.remove_tree("work/work/incompat/volatile")?;
            if options.volatile && !data.iter().any(|option| option == "volatile") {
                data.push("volatile".to_owned());
            }
        }
        for lower in &lowers {
            self.directories(lower, &mut below)?;
        }
        if below.is_empty() || (below.len() == 1 && flags.read_only) {
            below.push(layer.path().join(EMPTY));
        }
        if below.len() > MAX_LOWERS {
            let (id, found) = (id.to_owned(), below.len());
            return Err(DriverError::TooDeep {
                id,
                found,
                limit: MAX_LOWERS,
            });
        }
        mount.lowers = below;
        mount.options = data;
        mount.context.clone_from(&options.label);
        Ok(mount)
    }

    /// Mounts a layer, making the place when it is missing.
    pub(super) fn mount_layer(
        &self,
        id: &str,
        at: &Path,
        options: &MountOptions,
    ) -> Result<PathBuf, DriverError> {
        let mount = self.plan(id, options)?;
        let home = self.home.path();
        if at.starts_with(home) && !self.skip_mount_home && !sys::mount::is_mount_point(home)? {
            // As every Go tool does at its first call: that would hide a mount made before it, and the
            // tool would mount the same upper directory a second time.
            sys::mount::make_private(home)?;
        }
        // Older peers remove the mount point when they unmount; and it must be there before the overlay
        // is made: a volatile one that can't be attached leaves its mark and can't be made again.
        drop(Dir::open_or_create(at, 0o700)?);
        sys::mount::overlay(&mount, at)?;
        Ok(at.to_owned())
    }

    /// The whole tree of a layer, mounted read-only nowhere: it ends with the returned directory.
    pub(super) fn view(&self, id: &str) -> Result<Dir, DriverError> {
        let options = MountOptions {
            read_only: true,
            ..MountOptions::default()
        };
        let mut mount = self.plan(id, &options)?;
        mount.options.clear();
        Ok(sys::mount::overlay_view(
            &mount,
            &self.home.path().join(id),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_options_become_properties_of_the_mount() {
        let options = ["nodev", "metacopy=on", "ro", "noatime"].map(str::to_owned);
        let (flags, data) = split(&options);
        assert!(flags.no_devices && flags.read_only && flags.no_access_time && !flags.no_exec);
        assert_eq!(data, ["metacopy=on"]);
    }
}
