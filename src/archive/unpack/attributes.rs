//! Owners and extended attributes of members: which of them are wanted, and what may be left out.

use std::path::Path;

use super::{Options, UnpackError, forced};
use crate::archive::capability;
use crate::archive::override_stat;
use crate::archive::tar::Entry;
use crate::sys::{Dir, Error, File};

/// An attribute of the process that made the archive, not of the file.
const SKIPPED: &[u8] = b"security.selinux";

/// By which new inodes in a directory no longer follow the umask.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Key and value of an extended attribute.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// Where an attribute goes.
pub(super) enum Target<'a> {
    File(&'a File),
    Name(&'a Dir, &'a Path),
}

/// The attributes that a member is to get, as they are outside of the container.
pub(super) fn wanted(options: &Options, entry: &Entry) -> Result<Vec<Attribute>, UnpackError> {
    let mut wanted = Vec::new();
    for (key, value) in &entry.attributes {
        if key == SKIPPED || options.whiteouts.reserves(key) || is_ours(options, key) {
            continue;
        }
        if key.contains(&0) || key.len() > 255 {
            return Err(UnpackError::Forbidden {
                name: entry.name.clone(),
                reason: "the name of an extended attribute is invalid",
            });
        }
        let maps = &options.id_maps;
        let value = match key == capability::KEY && !maps.is_identity() {
            true => capability::shift(value.clone(), false, |root| maps.user_to_host(root)),
            false => value.clone(),
        };
        wanted.push((key.clone(), value));
    }
    if let Some(meant) = forced::meant(options, entry)? {
        wanted.push((override_stat::KEY.to_vec(), meant.to_value()));
    }
    Ok(wanted)
}

/// The owner of a member outside of the container.
pub(super) fn owner(options: &Options, entry: &Entry) -> Result<(u32, u32), UnpackError> {
    // Every member was checked to have IDs that fit.
    let (uid, gid) = (entry.uid as u32, entry.gid as u32);
    let owner = options.id_maps.to_host(uid, gid);
    owner.ok_or_else(|| UnpackError::Forbidden {
        name: entry.name.clone(),
        reason: "the user or group ID is not mapped",
    })
}

/// True for the attribute that says what a forced member is meant to be: not an archive's to say, and never left out.
fn is_ours(options: &Options, key: &[u8]) -> bool {
    options.force_mask.is_some() && key == override_stat::KEY
}

/// Sets attributes; how many the file system does not know, or a user namespace may not set.
pub(super) fn set(
    options: &Options,
    target: &Target<'_>,
    attributes: &[Attribute],
) -> Result<u64, UnpackError> {
    let mut skipped = 0;
    for (key, value) in attributes {
        let result = match target {
            Target::File(file) => file.set_attribute(key, value),
            Target::Name(dir, name) => dir.set_attribute(name, key, value),
        };
        match result.as_ref().map_err(Error::errno) {
            Ok(()) => {}
            Err(_) if is_ours(options, key) => result?,
            Err(Some(libc::EOPNOTSUPP)) => skipped += 1,
            Err(Some(libc::EPERM)) if options.in_user_namespace => skipped += 1,
            Err(_) => result?,
        }
    }
    Ok(skipped)
}

/// Lets an owner that can't be set pass, where that is wanted.
pub(super) fn check_owner(options: &Options, result: Result<(), Error>) -> Result<(), UnpackError> {
    match result {
        Err(error) if options.ignore_chown_errors => {
            tracing::warn!(%error, "the owner of a file is not what its layer says");
            Ok(())
        }
        result => Ok(result?),
    }
}
