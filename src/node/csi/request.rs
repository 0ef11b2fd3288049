//! A request of the wire becomes a valid request, or the field that is wrong. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::wire::{
    CapacityRange, CreateVolumeRequest, ListVolumesRequest, NodePublishVolumeRequest, Topology,
    TopologyRequirement, VolumeCapability,
    volume_capability::{AccessType, access_mode::Mode},
};
use crate::node::volume::{
    Access, AttributeError, Attributes, Creation, Definition, Handle, MountFlags, Place,
    Publication, PullSecret, Range, StoreId,
};

/// How long a call without a deadline may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of its time a call keeps for its answer, so that the caller reads it.
const ANSWER: Duration = Duration::from_millis(500);

const MAX_NAME: usize = 128;
const MAX_HANDLE: usize = 1024;
const MAX_PATH: usize = 4096;
const MAX_PAIRS: usize = 64 * 1024;
const SECRET_KEY: &str = ".dockerconfigjson";

/// A field of a request is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A field that must be given is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is longer than may be.
    #[error("{field} is longer than {limit} bytes")]
    TooLong {
        /// The field.
        field: &'static str,
        /// What may be.
        limit: usize,
    },
    /// A field has a value that is not offered.
    #[error("{field}: {value} is not supported; {offered}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is.
        offered: &'static str,
    },
    /// A size is negative or its bounds contradict each other.
    #[error("capacity_range: from {required} to {limit} bytes is no range")]
    Range {
        /// At least.
        required: i64,
        /// At most.
        limit: i64,
    },
    /// An attribute or parameter is wrong.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// A secret was given that can't be used.
    #[error(
        "the secret has no key {SECRET_KEY}; it must be of type kubernetes.io/dockerconfigjson"
    )]
    Secret,
}

/// When the caller stops waiting, less the time for the answer.
pub fn deadline(metadata: &MetadataMap) -> Instant {
    let given = metadata
        .get("grpc-timeout")
        .and_then(|text| text.to_str().ok())
        .and_then(timeout);
    let wait = given.unwrap_or(PATIENCE).min(PATIENCE);
    Instant::now() + wait.saturating_sub(ANSWER.min(wait / 10))
}

fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The text of a field that must be given.
///
/// # Errors
/// When it is missing or too long for a path.
pub fn required(field: &'static str, text: String) -> Result<String, RequestError> {
    if text.is_empty() {
        Err(RequestError::Missing { field })
    } else if text.len() > MAX_PATH {
        Err(RequestError::TooLong {
            field,
            limit: MAX_PATH,
        })
    } else {
        Ok(text)
    }
}

/// The handle in `volume_id`.
///
/// # Errors
/// When it is missing or too long.
pub fn handle(text: &str, store: &StoreId) -> Result<Handle, RequestError> {
    if text.is_empty() {
        return Err(RequestError::Missing { field: "volume_id" });
    }
    if text.len() > MAX_HANDLE {
        return Err(RequestError::TooLong {
            field: "volume_id",
            limit: MAX_HANDLE,
        });
    }
    Ok(Handle::parse(text, store))
}

/// What a capability asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Who may use the volume, and how.
    pub access: Access,
    /// Flags of its mounts.
    pub flags: MountFlags,
    /// Group that owns its root.
    pub group: Option<u32>,
}

/// Makes a capability typed.
///
/// # Errors
/// When it is missing, or asks for something that is not offered.
pub fn capability(capability: Option<&VolumeCapability>) -> Result<Capability, RequestError> {
    let capability = capability.ok_or(RequestError::Missing {
        field: "volume_capability",
    })?;
    let mount = match &capability.access_type {
        Some(AccessType::Mount(mount)) => mount,
        Some(AccessType::Block(_)) => {
            return Err(unsupported("access_type", "block", "volumes are mounted"));
        }
        None => {
            return Err(RequestError::Missing {
                field: "volume_capability.access_type",
            });
        }
    };
    if !matches!(mount.fs_type.as_str(), "" | "overlay") {
        return Err(unsupported(
            "fs_type",
            &mount.fs_type,
            "leave it empty: a volume is a directory of the store, not a device",
        ));
    }
    let mut flags = MountFlags::default();
    flags
        .add(mount.mount_flags.iter().map(String::as_str))
        .map_err(|flag| {
            unsupported(
                "mount_flags",
                flag,
                "known are ro, rw, exec, noexec, suid, nosuid, nodev and noatime",
            )
        })?;
    let group = match mount.volume_mount_group.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .ok()
                .filter(|group| *group != u32::MAX)
                .ok_or_else(|| {
                    unsupported(
                        "volume_mount_group",
                        text,
                        "it must be the number of a group",
                    )
                })?,
        ),
    };
    let mode = capability
        .access_mode
        .as_ref()
        .ok_or(RequestError::Missing {
            field: "volume_capability.access_mode",
        })?
        .mode();
    let access = match mode {
        Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter => Access::SingleWriter,
        Mode::SingleNodeReaderOnly => Access::SingleReader,
        Mode::SingleNodeMultiWriter => Access::MultiWriter,
        Mode::Unknown => {
            return Err(RequestError::Missing {
                field: "volume_capability.access_mode.mode",
            });
        }
        Mode::MultiNodeReaderOnly | Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter => {
            return Err(unsupported(
                "access_mode",
                mode.as_str_name(),
                "a volume lies on one node: use a mode of a single node",
            ));
        }
    };
    flags.read_only |= access == Access::SingleReader;
    Ok(Capability {
        access,
        flags,
        group,
    })
}

fn unsupported(field: &'static str, value: &str, offered: &'static str) -> RequestError {
    RequestError::Unsupported {
        field,
        value: value.to_owned(),
        offered,
    }
}

fn pairs(field: &'static str, pairs: &HashMap<String, String>) -> Result<(), RequestError> {
    let size: usize = pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MAX_PAIRS {
        return Err(RequestError::TooLong {
            field,
            limit: MAX_PAIRS,
        });
    }
    Ok(())
}

fn secret(mut secrets: HashMap<String, String>) -> Result<Option<PullSecret>, RequestError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    secrets
        .remove(SECRET_KEY)
        .map(|text| Some(PullSecret::new(text)))
        .ok_or(RequestError::Secret)
}

/// What a NodePublishVolume call asks for.
///
/// # Errors
/// When a field is missing or wrong.
pub fn publication(
    request: NodePublishVolumeRequest,
    store: &StoreId,
) -> Result<Publication, RequestError> {
    let handle = handle(&request.volume_id, store)?;
    let target = required("target_path", request.target_path)?;
    let capability = capability(request.volume_capability.as_ref())?;
    pairs("volume_context", &request.volume_context)?;
    let attributes = Attributes::parse(&request.volume_context)?;
    let mut flags = capability.flags;
    flags.read_only |= request.readonly;
    flags.no_exec |= attributes.flags.no_exec;
    flags.suid |= attributes.flags.suid;
    flags.no_atime |= attributes.flags.no_atime;
    Ok(Publication {
        handle,
        target: target.into(),
        attributes,
        flags,
        access: capability.access,
        group: capability.group,
        secret: secret(request.secrets)?,
    })
}

/// Parameters of a class, made typed.
///
/// # Errors
/// When a key is unknown or a value is wrong.
pub fn parameters(parameters: &HashMap<String, String>) -> Result<Attributes, RequestError> {
    pairs("parameters", parameters)?;
    Ok(Attributes::parse(parameters)?)
}

/// What a CreateVolume call asks for.
///
/// # Errors
/// When a field is missing or wrong.
pub fn creation(request: CreateVolumeRequest) -> Result<Creation, RequestError> {
    if request.name.is_empty() {
        return Err(RequestError::Missing { field: "name" });
    }
    if request.name.len() > MAX_NAME {
        return Err(RequestError::TooLong {
            field: "name",
            limit: MAX_NAME,
        });
    }
    if request.volume_capabilities.is_empty() {
        return Err(RequestError::Missing {
            field: "volume_capabilities",
        });
    }
    for one in &request.volume_capabilities {
        capability(Some(one))?;
    }
    if request.volume_content_source.is_some() {
        return Err(unsupported(
            "volume_content_source",
            "a snapshot or volume",
            "volumes start from an image or empty",
        ));
    }
    if !request.mutable_parameters.is_empty() {
        return Err(unsupported(
            "mutable_parameters",
            "any",
            "a volume keeps what it was made with",
        ));
    }
    Ok(Creation {
        name: request.name,
        attributes: parameters(&request.parameters)?,
        range: range(request.capacity_range)?,
        secret: secret(request.secrets)?,
    })
}

fn range(range: Option<CapacityRange>) -> Result<Range, RequestError> {
    let CapacityRange {
        required_bytes: required,
        limit_bytes: limit,
    } = range.unwrap_or_default();
    if required < 0 || limit < 0 || limit != 0 && limit < required {
        return Err(RequestError::Range { required, limit });
    }
    Ok(Range { required, limit })
}

/// The context that a claim's volume is published with later.
pub fn context_of(definition: &Definition) -> HashMap<String, String> {
    let mut context = HashMap::new();
    if let Some(image) = &definition.image {
        context.insert("image".to_owned(), image.clone());
    }
    if let Some(platform) = &definition.platform {
        context.insert("platform".to_owned(), platform.clone());
    }
    context
}

/// Whether `given` is the volume's context; Kubernetes adds keys of its own.
pub fn is_context(given: &HashMap<String, String>, context: &HashMap<String, String>) -> bool {
    context
        .iter()
        .all(|(key, value)| given.get(key) == Some(value))
}

/// Whether every segment of `place` is one of `ours`.
pub fn is_within(ours: &Topology, place: &Topology) -> bool {
    place
        .segments
        .iter()
        .all(|(key, value)| ours.segments.get(key) == Some(value))
}

/// Whether a volume of ours is where it must be.
pub fn reaches(requirement: Option<&TopologyRequirement>, ours: &Topology) -> bool {
    requirement.is_none_or(|requirement| {
        requirement.requisite.is_empty()
            || requirement
                .requisite
                .iter()
                .any(|place| is_within(ours, place))
    })
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// ID of the container that it starts with.
    pub start: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
}

/// Which page a ListVolumes call asks for.
///
/// # Errors
/// With the code that the interface has for a bad token or limit.
pub fn page(request: &ListVolumesRequest, store: &StoreId) -> Result<Page, Status> {
    let limit = usize::try_from(request.max_entries)
        .map_err(|_| Status::invalid_argument("max_entries is negative"))?;
    let start = match request.starting_token.as_str() {
        "" => None,
        token => {
            let handle = Handle::parse(token, store);
            if handle.place() != Place::Claim {
                return Err(Status::aborted(
                    "starting_token is not from an answer of this plugin; start anew without one",
                ));
            }
            Some(handle.container().to_owned())
        }
    };
    Ok(Page {
        start,
        limit: (limit != 0).then_some(limit),
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::volume_capability::{AccessMode, BlockVolume, MountVolume};
    use super::*;

    fn store() -> StoreId {
        StoreId::parse(&"07".repeat(16)).unwrap()
    }

    fn mount(mode: Mode) -> VolumeCapability {
        VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: Some(AccessMode { mode: mode.into() }),
        }
    }

    fn publish() -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: "csi-1".to_owned(),
            target_path: "/target".to_owned(),
            volume_capability: Some(mount(Mode::SingleNodeWriter)),
            ..Default::default()
        }
    }

    #[test]
    fn the_missing_field_is_named() {
        let cases: [(fn(&mut NodePublishVolumeRequest), &str); 6] = [
            (|r| r.volume_id.clear(), "volume_id is missing"),
            (|r| r.target_path.clear(), "target_path is missing"),
            (
                |r| r.volume_capability = None,
                "volume_capability is missing",
            ),
            (
                |r| r.volume_capability.as_mut().unwrap().access_mode = None,
                "volume_capability.access_mode is missing",
            ),
            (
                |r| r.volume_capability = Some(mount(Mode::Unknown)),
                "volume_capability.access_mode.mode is missing",
            ),
            (
                |r| r.secrets = HashMap::from([("user".to_owned(), "root".to_owned())]),
                "the secret has no key .dockerconfigjson; it must be of type kubernetes.io/dockerconfigjson",
            ),
        ];
        for (change, text) in cases {
            let mut request = publish();
            change(&mut request);
            assert_eq!(
                publication(request, &store()).unwrap_err().to_string(),
                text
            );
        }
        publication(publish(), &store()).unwrap();
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let mut block = mount(Mode::SingleNodeWriter);
        block.access_type = Some(AccessType::Block(BlockVolume {}));
        assert!(capability(Some(&block)).is_err());
        assert!(capability(Some(&mount(Mode::MultiNodeMultiWriter))).is_err());
        let with = |change: fn(&mut MountVolume)| {
            let mut volume = MountVolume::default();
            change(&mut volume);
            capability(Some(&VolumeCapability {
                access_type: Some(AccessType::Mount(volume)),
                ..mount(Mode::SingleNodeMultiWriter)
            }))
        };
        assert!(with(|volume| volume.fs_type = "ext4".to_owned()).is_err());
        assert!(with(|volume| volume.mount_flags = vec!["dev".to_owned()]).is_err());
        assert!(with(|volume| volume.volume_mount_group = "users".to_owned()).is_err());
        let right = with(|volume| {
            volume.volume_mount_group = "1000".to_owned();
            volume.mount_flags = vec!["noexec".to_owned()];
        })
        .unwrap();
        assert_eq!(right.group, Some(1000));
        assert!(right.flags.no_exec);
    }

    #[test]
    fn reading_only_comes_from_the_request_the_mode_or_the_flags() {
        let mut request = publish();
        assert!(
            !publication(request.clone(), &store())
                .unwrap()
                .flags
                .read_only
        );
        request.readonly = true;
        assert!(
            publication(request.clone(), &store())
                .unwrap()
                .flags
                .read_only
        );
        request.readonly = false;
        request.volume_capability = Some(mount(Mode::SingleNodeReaderOnly));
        assert!(publication(request, &store()).unwrap().flags.read_only);
    }

    #[test]
    fn ranges_are_checked() {
        let check = |required_bytes, limit_bytes| {
            range(Some(CapacityRange {
                required_bytes,
                limit_bytes,
            }))
        };
        assert!(check(-1, 0).is_err());
        assert!(check(0, -1).is_err());
        assert!(check(2, 1).is_err());
        assert!(check(2, 2).is_ok());
        assert!(check(2, 0).is_ok());
    }

    #[test]
    fn deadlines_are_read() {
        assert_eq!(timeout("20S"), Some(Duration::from_secs(20)));
        assert_eq!(timeout("1500m"), Some(Duration::from_millis(1500)));
        for bad in ["", "S", "5", "5x", "é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_that_are_not_ours_are_aborted() {
        let request = |token: &str| ListVolumesRequest {
            max_entries: 3,
            starting_token: token.to_owned(),
        };
        let error = page(&request("invalid-token"), &store()).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Aborted);
        let token = store().handle_for_name("a").to_string();
        assert_eq!(page(&request(&token), &store()).unwrap().limit, Some(3));
    }
}
