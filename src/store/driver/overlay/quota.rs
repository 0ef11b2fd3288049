//! How much a container may write: its layer's directory is a project of the file system, with a limit.
//!
//! As peers do it on xfs, and on ext4 as well: everything in `<id>/` counts, what overlay keeps for itself too. A layer
//! without a limit is a project on xfs nevertheless, as peers ask there what it holds. The limit is a matter of the file
//! system alone; no file has it.

use std::sync::OnceLock;

use crate::store::driver::{DriverError, DriverOptions, Limits, PrepareOptions};
use crate::sys::dir::random_u64;
use crate::sys::mount::file_system_name;
use crate::sys::quota::ProjectLimit;
use crate::sys::{self, Dir};

/// How many projects a home has for itself: peers derive the first from the home, and go up from there.
const PROJECTS: u32 = 10_000;

/// How many of them are looked at, before those of others are, and then twice as many.
const TRIES: u32 = 20;
/// How often more are looked at before giving up.
const ROUNDS: u32 = 15;

/// What limits the containers of a home; by default nothing.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// For those that are told nothing else.
    usual: ProjectLimit,
    /// Whether limits hold in the home.
    is_in_force: OnceLock<bool>,
}

impl Quota {
    /// What the options say.
    ///
    /// # Errors
    /// [`DriverError::NoQuotas`] when they limit and `home` can't.
    pub(super) fn open(home: &Dir, options: &DriverOptions) -> Result<Self, DriverError> {
        let quota = Self {
            usual: ProjectLimit {
                bytes: options.size.unwrap_or(0),
                inodes: options.inodes.unwrap_or(0),
            },
            is_in_force: OnceLock::new(),
        };
        if quota.usual != ProjectLimit::default() && !quota.is_in_force(home)? {
            return Err(no_quotas(home)?);
        }
        Ok(quota)
    }

    fn is_in_force(&self, home: &Dir) -> Result<bool, sys::Error> {
        if let Some(known) = self.is_in_force.get() {
            return Ok(*known);
        }
        let found = !sys::userns::is_rootless()? && home.has_project_limits()?;
        Ok(*self.is_in_force.get_or_init(|| found))
    }

    /// True when the home's layers are projects: where peers make them so, and where a limit is set.
    fn is_used(&self, home: &Dir, limit: ProjectLimit) -> Result<bool, DriverError> {
        let is_limited = limit != ProjectLimit::default();
        if !is_limited && file_system_name(home)? != "xfs" {
            return Ok(false);
        }
        match self.is_in_force(home)? {
            false if is_limited => Err(no_quotas(home)?),
            found => Ok(found),
        }
    }

    /// Makes the empty directory `at` a project with the limit of a layer that is about to be made there.
    ///
    /// # Errors
    /// [`DriverError::LimitOfImage`], [`DriverError::NoQuotas`], or when the kernel refuses.
    pub(super) fn limit(
        &self,
        home: &Dir,
        at: &Dir,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        if !options.read_write {
            return match options.limits == Limits::default() {
                true => Ok(()),
                false => Err(DriverError::LimitOfImage),
            };
        }
        let limit = self.of(options);
        if self.is_used(home, limit)? {
            let project = take_project(home, at)?;
            // Also where there is no limit: its last owner may have left one.
            at.limit_project(project, limit)?;
        }
        Ok(())
    }

    /// Takes the limit off a layer in the making, for what is not the container's to be counted; its project, if it had one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn lift(
        &self,
        home: &Dir,
        at: &Dir,
        options: &PrepareOptions,
    ) -> Result<Option<u32>, DriverError> {
        if !options.read_write || self.of(options) == ProjectLimit::default() {
            return Ok(None);
        }
        let project = at.project()?;
        home.limit_project(project, ProjectLimit::default())?;
        Ok(Some(project))
    }

    /// Sets the limit again, beyond what is in the project by now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn limit_what_comes(
        &self,
        home: &Dir,
        project: u32,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        let limit = self.of(options);
        let there = home.find_project(project)?;
        let more = |limit: u64, there: u64| match limit {
            0 => 0,
            limit => limit.saturating_add(there),
        };
        let limit = ProjectLimit {
            bytes: more(limit.bytes, there.bytes),
            inodes: more(limit.inodes, there.inodes),
        };
        Ok(home.limit_project(project, limit)?)
    }

    /// The limit of a container's layer.
    fn of(&self, options: &PrepareOptions) -> ProjectLimit {
        ProjectLimit {
            bytes: options.limits.size.unwrap_or(self.usual.bytes),
            inodes: options.limits.inodes.unwrap_or(self.usual.inodes),
        }
    }

    /// Takes the limit off the project of a layer that was moved from the home to `trash`, since peers take projects over
    /// as they find them.
    pub(super) fn release(&self, home: &Dir, trash: &Dir, layer: &Dir) -> Result<(), DriverError> {
        let project = layer.project()?;
        if project == 0 || !self.is_in_force(home)? {
            return Ok(());
        }
        // Those of the folders that layers are made and kept in are their administrator's; an image's may have one.
        if project == home.project()? || project == trash.project()? {
            return Ok(());
        }
        if home.find_project(project)?.limit != ProjectLimit::default() {
            home.limit_project(project, ProjectLimit::default())?;
        }
        Ok(())
    }
}

fn no_quotas(home: &Dir) -> Result<DriverError, sys::Error> {
    Ok(DriverError::NoQuotas {
        path: home.path().display().to_string(),
        file_system: file_system_name(home)?,
    })
}

/// The project before the first that the home may use: its own, or as peers derive it from the home's inode.
fn base(project: u32, inode: u64) -> u32 {
    if project != 0 {
        return project;
    }
    let all = u64::from(u32::MAX - PROJECTS);
    let derived = inode.wrapping_mul(u64::from(PROJECTS)) % all;
    PROJECTS.saturating_add(u32::try_from(derived).unwrap_or(0))
}

/// Makes `at` a project that nothing else is in.
///
/// Peers take the one behind the highest that they found when they started, so two of them can take the same. Here the
/// kernel is asked: nothing must be in it before, and `at` alone after.
fn take_project(home: &Dir, at: &Dir) -> Result<u32, DriverError> {
    let base = base(home.project()?, home.stat_self()?.st_ino);
    // The highest number is none.
    let base = base.min(u32::MAX - 1 - PROJECTS);
    for round in (0..ROUNDS).flat_map(|round| [round; TRIES as usize]) {
        let span = (u64::from(PROJECTS) << round).min(u64::from(u32::MAX - 1 - base));
        let offset = random_u64() % span;
        let project = base + 1 + u32::try_from(offset).unwrap_or(0);
        if home.find_project(project)?.inodes > 0 {
            continue;
        }
        at.set_project(project)?;
        if home.find_project(project)?.inodes == 1 {
            return Ok(project);
        }
    }
    Err(DriverError::NoProject(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What containers/storage 1.65 derives.
    #[test]
    fn the_projects_of_a_home_are_those_of_peers() {
        assert_eq!(base(100_000, 7), 100_000);
        assert_eq!(base(0, 128), 1_290_000);
        assert_eq!(base(0, 429_496), 12_705);
        assert_eq!(base(0, (1 << 40) + 7), 4_127_853_525);
        assert_eq!(base(0, u64::MAX), 100_020_001);
    }
}
