//! Mounting by a program, as fuse-overlayfs: where the kernel's own overlay may not be used.

use std::path::{Path, PathBuf};

use crate::archive::id_shift::{IdMaps, IdRange};
use crate::store::driver::DriverError;
use crate::sys::dir::random_u64;
use crate::sys::mount::{Flags, Overlay};
use crate::sys::{self, Dir, program};

/// What the peers take when none is configured.
const DEFAULT: &str = "fuse-overlayfs";

/// The program, and a folder in which it mounts what is only looked at.
#[derive(Debug)]
pub(super) struct MountProgram {
    path: PathBuf,
    views: PathBuf,
}

impl MountProgram {
    /// The program at `path`; `views` is made when first needed.
    ///
    /// # Errors
    /// When there is no such file.
    pub(super) fn new(path: PathBuf, views: PathBuf) -> Result<Self, DriverError> {
        drop(sys::File::open(&path)?);
        Ok(Self { path, views })
    }

    /// The program that is taken where none is configured and the kernel's overlay is of no use; `None` when it is not
    /// among those that are found without a path.
    pub(super) fn find(views: PathBuf) -> Option<Self> {
        let path = PathBuf::from(DEFAULT);
        let found = program::run(&path, &["--version"]);
        found.ok().map(|()| Self { path, views })
    }

    /// Mounts at `target`, which must be a directory; the program goes on until that is unmounted.
    pub(super) fn mount(&self, overlay: &Overlay, target: &Path) -> Result<(), sys::Error> {
        let options = options(overlay);
        let target_text = target.as_os_str();
        sys::fault::change("mount", || {
            let arguments = ["-o".as_ref(), options.as_ref(), target_text];
            program::run(&self.path, &arguments).map_err(Into::into)
        })
        .map_err(|error| sys::Error::new("mount an overlay at", target, error))
    }

    /// What would be mounted, seen by the returned directory alone.
    pub(super) fn view(&self, overlay: &Overlay) -> Result<Dir, sys::Error> {
        let views = Dir::open_or_create(&self.views, 0o700)?;
        let place = views.ensure_dir(format!("{:016x}", random_u64()), 0o700)?;
        let name = place.path().to_owned();
        drop(place);
        let mounted = self.mount(overlay, &name);
        let view = mounted.and_then(|()| Dir::open(&name));
        // It lives on for as long as the directory is open.
        let unmounted = sys::mount::unmount(&name);
        let removed = match name.file_name() {
            Some(name) => views.remove_dir(name),
            None => Ok(()),
        };
        let view = view?;
        unmounted?;
        removed?;
        Ok(view)
    }
}

/// The options by which a program shows the owners of a layer, and of those below it, as others.
pub(super) fn mappings(maps: &IdMaps) -> Vec<String> {
    let option = |kind: &str, ranges: &[IdRange]| match ranges {
        [] => None,
        [range] if range.size == 1 => Some(format!("squash_to_{kind}={}", range.host)),
        ranges => {
            let ranges: Vec<String> = ranges
                .iter()
                .map(|range| format!("{}:{}:{}", range.container, range.host, range.size))
                .collect();
            Some(format!("{kind}mapping={}", ranges.join(":")))
        }
    };
    let options = [option("uid", &maps.uids), option("gid", &maps.gids)];
    options.into_iter().flatten().collect()
}

/// The whole of a mount as one text, as `mount(8)` would have it.
fn options(overlay: &Overlay) -> String {
    let path = |path: &PathBuf| {
        let text = path.display().to_string();
        text.replace('\\', "\\\\")
            .replace(':', "\\:")
            .replace(',', "\\,")
    };
    let lowers: Vec<String> = overlay.lowers.iter().map(path).collect();
    let mut parts = vec![format!("lowerdir={}", lowers.join(":"))];
    if let Some((upper, work)) = &overlay.upper {
        parts.push(format!("upperdir={}", path(upper)));
        parts.push(format!("workdir={}", path(work)));
    }
    let Flags {
        read_only,
        no_devices,
        no_set_id,
        no_exec,
        no_access_time,
        no_directory_access_time,
        strict_access_time,
        set_id: _,
    } = overlay.flags;
    for (is_set, name) in [
        (read_only, "ro"),
        (no_devices, "nodev"),
        (no_set_id, "nosuid"),
        (no_exec, "noexec"),
        (no_access_time, "noatime"),
        (no_directory_access_time, "nodiratime"),
        (strict_access_time, "strictatime"),
    ] {
        parts.extend(is_set.then(|| name.to_owned()));
    }
    // Marks of users are a matter of the kernel's.
    let others = overlay
        .options
        .iter()
        .filter(|option| *option != "userxattr");
    parts.extend(others.cloned());
    if let Some(label) = &overlay.context {
        parts.push(format!("context=\"{label}\""));
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_options() {
        let range = |container, host, size| IdRange {
            container,
            host,
            size,
        };
        let maps = IdMaps {
            uids: vec![range(0, 1000, 10), range(10, 1010, 5)],
            gids: vec![range(0, 7, 1)],
        };
        assert!(maps.is_contiguous());
        assert_eq!(
            mappings(&maps),
            ["uidmapping=0:1000:10:10:1010:5", "squash_to_gid=7"]
        );
        assert!(mappings(&IdMaps::default()).is_empty());
    }

    #[test]
    fn a_mount_is_one_text() {
        let overlay = Overlay {
            lowers: vec!["/a:b".into(), "/c,d".into()],
            upper: Some(("/u".into(), "/w".into())),
            options: vec!["volatile".to_owned(), "userxattr".to_owned()],
            context: None,
            flags: Flags {
                no_devices: true,
                ..Flags::default()
            },
        };
        assert_eq!(
            options(&overlay),
            "lowerdir=/a\\:b:/c\\,d,upperdir=/u,workdir=/w,nodev,volatile"
        );
    }
}
