//! From what is found to what is wanted: a pure comparison.
//!
//! A publish does what this plan says and nothing else. Whatever was interrupted before, by a kill or
//! a time-out, is part of what is found; so every retry goes on from there, in any order.

use super::attributes::MountFlags;
use super::boot::Files;
use super::definition::Definition;

/// Who may use a volume, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One target, read and write.
    SingleWriter,
    /// One target, read only.
    SingleReader,
    /// Several targets on this node.
    MultiWriter,
}

/// What is wanted of a publish, as far as the plan depends on it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the volume is to be.
    pub definition: Definition,
    /// Whether it may be made; a claim's volume must exist already.
    pub may_create: bool,
    /// Flags of the mount at the target.
    pub flags: MountFlags,
    /// How many targets it may have.
    pub access: Access,
    /// Group that owns its root.
    pub group: Option<u32>,
}

/// The volume as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundVolume {
    /// No container has its ID.
    Absent,
    /// A container has its ID.
    Present {
        /// What it is.
        definition: Box<Definition>,
        /// What is known of its files.
        files: Files,
        /// Its mount is there.
        is_mounted: bool,
    },
    /// A container has its ID that is no volume.
    Stranger,
}

/// The target as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundTarget {
    /// Nothing is there.
    Missing,
    /// An empty directory.
    Directory,
    /// The volume is there.
    Published(MountFlags),
    /// Something else is there.
    Used(&'static str),
}

/// What a publish finds.
#[derive(Clone, Debug)]
pub struct Found {
    /// The volume.
    pub volume: FoundVolume,
    /// The target.
    pub target: FoundTarget,
    /// Flags of the volume's own mount, which targets can't go below.
    pub source_flags: Option<MountFlags>,
    /// Whether the volume has other targets.
    pub has_other_targets: bool,
    /// This boot.
    pub boot: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the container: its files may be torn by a crash of the system.
    Discard,
    /// Let the files that were drained go on in this boot.
    Resume,
    /// Make the container, from the image, which is pulled when missing.
    Create,
    /// Mount it at the volume's own place.
    Mount,
    /// Give its root directory to the group.
    GiveTo(u32),
    /// Make the target directory.
    MakeTarget,
    /// Make it visible at the target.
    Bind(MountFlags),
}

/// What is found can't become what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The volume must exist and does not.
    #[error("there is no such volume in this store")]
    Unknown,
    /// It is at the target, but its container was deleted by another tool: a new volume mounted over it
    /// would hide the running pod's data.
    #[error(
        "it is published at this target, but another tool has deleted it from the store: its pod keeps \
         its files until it ends"
    )]
    Deleted,
    /// Another tool's container has the volume's ID.
    #[error("a container that is no volume has its ID")]
    Stranger,
    /// The volume exists with another definition.
    #[error("it exists with another {what}: {is}, not {wanted}")]
    Definition {
        /// What differs.
        what: &'static str,
        /// How it is.
        is: String,
        /// How it is wanted.
        wanted: String,
    },
    /// It is at the target, mounted otherwise.
    #[error("it is published at this target already, with other mount flags (read-only: {})", .is.read_only)]
    Flags {
        /// How it is mounted.
        is: MountFlags,
    },
    /// Something else is at the target.
    #[error("the target is in use: {what}")]
    Target {
        /// What is there.
        what: &'static str,
    },
    /// A volume for one target has one.
    #[error("it is published at another target, and its access mode allows one")]
    SecondTarget,
}

/// The steps from what is found to what is wanted; none when they agree.
///
/// # Errors
/// When no steps lead there.
pub fn plan(wanted: &Wanted, found: &Found) -> Result<Vec<Step>, Conflict> {
    if let FoundTarget::Used(what) = found.target {
        return Err(Conflict::Target { what });
    }
    let mut steps = Vec::new();
    match &found.volume {
        FoundVolume::Stranger => return Err(Conflict::Stranger),
        FoundVolume::Absent if !wanted.may_create => return Err(Conflict::Unknown),
        FoundVolume::Absent
            if matches!(found.target, FoundTarget::Published(_)) || found.has_other_targets =>
        {
            return Err(Conflict::Deleted);
        }
        FoundVolume::Absent => steps.extend([Step::Create, Step::Mount]),
        FoundVolume::Present {
            definition,
            files,
            is_mounted,
        } => {
            compare(definition, wanted)?;
            if files.are_drained() {
                steps.push(Step::Resume);
            }
            if let FoundTarget::Published(flags) = found.target
                && *is_mounted
            {
                let expected = match found.source_flags {
                    Some(source) => wanted.flags.over(source),
                    None => wanted.flags,
                };
                return if flags == expected {
                    Ok(steps)
                } else {
                    Err(Conflict::Flags { is: flags })
                };
            }
            if found.has_other_targets && wanted.access != Access::MultiWriter {
                return Err(Conflict::SecondTarget);
            }
            if !is_mounted {
                if files.are_torn(found.boot.as_deref()) {
                    steps.extend([Step::Discard, Step::Create]);
                }
                steps.push(Step::Mount);
            }
        }
    }
    if let Some(group) = wanted.group {
        steps.push(Step::GiveTo(group));
    }
    if found.target == FoundTarget::Missing {
        steps.push(Step::MakeTarget);
    }
    steps.push(Step::Bind(wanted.flags));
    Ok(steps)
}

fn compare(is: &Definition, wanted: &Wanted) -> Result<(), Conflict> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let of = |definition: &Definition| format!("{:?}", definition.lifecycle).to_lowercase();
    let conflict = |what, is, wanted| Err(Conflict::Definition { what, is, wanted });
    // A claim's volume may be published without being told what it is.
    let differs = |is: &Option<String>, wanted_one: &Option<String>| {
        is != wanted_one && (wanted.may_create || wanted_one.is_some())
    };
    let wanted_is = &wanted.definition;
    if differs(&is.image, &wanted_is.image) {
        conflict("image", or_none(&is.image), or_none(&wanted_is.image))
    } else if differs(&is.platform, &wanted_is.platform) {
        conflict(
            "platform",
            or_none(&is.platform),
            or_none(&wanted_is.platform),
        )
    } else if is.lifecycle != wanted_is.lifecycle {
        conflict("lifecycle", of(is), of(wanted_is))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::Lifecycle;
    use super::*;

    const RW: MountFlags = MountFlags {
        read_only: false,
        no_exec: false,
        suid: false,
        no_atime: false,
    };
    const RO: MountFlags = MountFlags {
        read_only: true,
        ..RW
    };

    fn definition(image: &str) -> Definition {
        let mut definition = Definition::new("csi-1", Lifecycle::Ephemeral);
        definition.image = Some(image.to_owned());
        definition.boot = Some("today".to_owned());
        definition
    }

    fn wanted() -> Wanted {
        Wanted {
            definition: definition("a"),
            may_create: true,
            flags: RW,
            access: Access::SingleWriter,
            group: None,
        }
    }

    fn present(is_mounted: bool) -> FoundVolume {
        FoundVolume::Present {
            definition: Box::new(definition("a")),
            files: Files::Volatile("today".to_owned()),
            is_mounted,
        }
    }

    fn found(volume: FoundVolume, target: FoundTarget) -> Found {
        Found {
            volume,
            target,
            source_flags: None,
            has_other_targets: false,
            boot: Some("today".to_owned()),
        }
    }

    #[test]
    fn every_interrupted_publish_goes_on_from_what_is_there() {
        use FoundTarget::{Directory, Missing, Published};
        use FoundVolume::Absent;
        use Step::{Bind, Create, MakeTarget, Mount};
        let cases = [
            (
                found(Absent, Missing),
                vec![Create, Mount, MakeTarget, Bind(RW)],
            ),
            (found(Absent, Directory), vec![Create, Mount, Bind(RW)]),
            (
                found(present(false), Missing),
                vec![Mount, MakeTarget, Bind(RW)],
            ),
            (found(present(true), Missing), vec![MakeTarget, Bind(RW)]),
            (found(present(true), Directory), vec![Bind(RW)]),
            (found(present(true), Published(RW)), vec![]),
        ];
        for (found, steps) in cases {
            assert_eq!(plan(&wanted(), &found), Ok(steps), "{found:?}");
        }
    }

    #[test]
    fn conflicts_are_told() {
        let a = || found(present(true), FoundTarget::Missing);
        let second = Found {
            has_other_targets: true,
            ..a()
        };
        assert_eq!(plan(&wanted(), &second), Err(Conflict::SecondTarget));
        let several = Wanted {
            access: Access::MultiWriter,
            ..wanted()
        };
        assert_eq!(
            plan(&several, &second),
            Ok(vec![Step::MakeTarget, Step::Bind(RW)])
        );
        assert_eq!(
            plan(&wanted(), &found(present(true), FoundTarget::Published(RO))),
            Err(Conflict::Flags { is: RO })
        );
        assert_eq!(
            plan(
                &wanted(),
                &found(present(true), FoundTarget::Used("a file"))
            ),
            Err(Conflict::Target { what: "a file" })
        );
        assert_eq!(
            plan(
                &wanted(),
                &found(FoundVolume::Stranger, FoundTarget::Missing)
            ),
            Err(Conflict::Stranger)
        );
        let other = Wanted {
            definition: definition("b"),
            ..wanted()
        };
        assert!(matches!(
            plan(&other, &a()),
            Err(Conflict::Definition { what: "image", .. })
        ));
        let claim = Wanted {
            may_create: false,
            ..wanted()
        };
        assert_eq!(
            plan(&claim, &found(FoundVolume::Absent, FoundTarget::Missing)),
            Err(Conflict::Unknown)
        );
    }

    #[test]
    fn after_another_boot_torn_files_start_anew_unless_they_are_kept_safe() {
        let mut later = found(present(false), FoundTarget::Directory);
        later.boot = Some("tomorrow".to_owned());
        assert_eq!(
            plan(&wanted(), &later),
            Ok(vec![
                Step::Discard,
                Step::Create,
                Step::Mount,
                Step::Bind(RW)
            ])
        );
        let mut keep = |files, boot: &str| {
            later.boot = Some(boot.to_owned());
            later.volume = FoundVolume::Present {
                definition: Box::new(definition("a")),
                files,
                is_mounted: false,
            };
            plan(&wanted(), &later).unwrap()
        };
        let mounted = [Step::Mount, Step::Bind(RW)];
        assert_eq!(keep(Files::Durable, "tomorrow"), mounted);
        let today = || "today".to_owned();
        assert_eq!(keep(Files::Volatile(today()), "today"), mounted);
        for boot in ["today", "tomorrow"] {
            assert_eq!(
                keep(Files::Drained(today()), boot),
                [Step::Resume, Step::Mount, Step::Bind(RW)]
            );
        }
    }

    #[test]
    fn a_drained_volume_that_is_published_becomes_writable_again() {
        let mut found = found(present(true), FoundTarget::Published(RO));
        found.source_flags = Some(RO);
        if let FoundVolume::Present { files, .. } = &mut found.volume {
            *files = Files::Drained("today".to_owned());
        }
        assert_eq!(plan(&wanted(), &found), Ok(vec![Step::Resume]));
    }

    #[test]
    fn the_group_is_given_before_the_volume_is_seen() {
        let wanted = Wanted {
            group: Some(1000),
            ..wanted()
        };
        assert_eq!(
            plan(&wanted, &found(present(true), FoundTarget::Directory)),
            Ok(vec![Step::GiveTo(1000), Step::Bind(RW)])
        );
    }
}
