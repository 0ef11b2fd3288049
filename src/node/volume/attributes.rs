//! Volume attributes (of an inline volume or a claim) and class parameters: text pairs, made typed.
//!
//! | Key | Values |
//! |---|---|
//! | `image` | reference of the image that the volume starts as; absent: scratch |
//! | `pullPolicy` | `Always`, `IfNotPresent`, `Never` |
//! | `pullAlways` | `true` is another way to say `pullPolicy: Always` |
//! | `platform` | `os/arch[/variant]` |
//! | `mountFlags` | of `exec`, `noexec`, `suid`, `nosuid`, `nodev`, `noatime`; separated by commas |
//!
//! Keys of Kubernetes' own (`csi.storage.k8s.io/…`) are allowed. Any other key is refused by name: a
//! typing mistake must never be silently ignored.

use std::collections::HashMap;

/// An attribute can't be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// No such key.
    #[error("unknown attribute {key:?}{}", did_you_mean(.key))]
    Unknown {
        /// The key.
        key: String,
    },
    /// A key that is reserved for what later versions do.
    #[error("attribute {key:?} is not supported yet")]
    NotYet {
        /// The key.
        key: String,
    },
    /// A value that the key can't have.
    #[error("attribute {key:?}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// Two attributes that contradict each other.
    #[error("attributes {first:?} and {second:?} contradict each other")]
    Contradiction {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

const KNOWN: [&str; 5] = [
    "image",
    "pullPolicy",
    "pullAlways",
    "platform",
    "mountFlags",
];
const LATER: [&str; 13] = [
    "images",
    "path",
    "size",
    "inodes",
    "pool",
    "layout",
    "limit",
    "owner",
    "fsGroupMode",
    "onUnpublish",
    "commitTo",
    "cacheKey",
    "cacheTTL",
];
const FROM_KUBERNETES: [&str; 2] = ["csi.storage.k8s.io/", "storage.kubernetes.io/"];

fn did_you_mean(key: &str) -> String {
    let plain = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase()
    };
    let wanted = plain(key);
    KNOWN
        .iter()
        .find(|known| {
            let known = plain(known);
            known == wanted || within_one_edit(known.as_bytes(), wanted.as_bytes())
        })
        .map_or_else(
            || format!("; there are: {}", KNOWN.join(", ")),
            |known| format!("; did you mean {known:?}?"),
        )
}

fn within_one_edit(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = short
        .iter()
        .zip(long)
        .take_while(|(left, right)| left == right)
        .count();
    match long.len() - short.len() {
        0 => {
            // One letter is another, or two neighbours are swapped.
            let rest = (&short[same..], &long[same..]);
            match rest {
                ([a, b, left @ ..], [c, d, right @ ..]) if a == d && b == c => left == right,
                ([_, left @ ..], [_, right @ ..]) => left == right,
                _ => true,
            }
        }
        1 => short[same..] == long[same + 1..],
        _ => false,
    }
}

/// When an image is looked for outside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every new volume.
    Always,
    /// When the store lacks it.
    IfNotPresent,
    /// Never.
    Never,
}

/// Flags of the mount at one target. Device files never work: `nodev` is always set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Nothing can be written.
    pub read_only: bool,
    /// Programs can't be started.
    pub no_exec: bool,
    /// Set-user-ID programs keep their power.
    pub suid: bool,
    /// Times of access are not kept.
    pub no_atime: bool,
}

impl MountFlags {
    /// Adds flags by name, as in `mountFlags` or a claim's mount options.
    ///
    /// # Errors
    /// The name of the first flag that is not known here.
    pub fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), &'a str> {
        for name in names {
            match name.trim() {
                "" | "nodev" | "rw" => {}
                "ro" => self.read_only = true,
                "exec" => self.no_exec = false,
                "noexec" => self.no_exec = true,
                "suid" => self.suid = true,
                "nosuid" => self.suid = false,
                "noatime" => self.no_atime = true,
                _ => return Err(name),
            }
        }
        Ok(())
    }
}

/// The pod that a volume is for, as the kubelet tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What a user asked for, typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Reference of the image that the volume starts as.
    pub image: Option<String>,
    /// When that image is looked for outside the store, if the user said so.
    pub pull_policy: Option<PullPolicy>,
    /// For which platform.
    pub platform: Option<String>,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// Whether the kubelet calls the volume ephemeral, if it says so.
    pub ephemeral: Option<bool>,
    /// For which pod, if the kubelet says so.
    pub pod: Option<Pod>,
}

impl Attributes {
    /// Makes the pairs typed.
    ///
    /// # Errors
    /// For the first key, in order of the alphabet, that is unknown or has a bad value.
    pub fn parse(pairs: &HashMap<String, String>) -> Result<Self, AttributeError> {
        let mut attributes = Self::default();
        let mut pod = Pod::default();
        let mut always = None;
        let mut sorted: Vec<_> = pairs.iter().collect();
        sorted.sort();
        for (key, value) in sorted {
            match key.as_str() {
                "image" if value.is_empty() => {
                    return Err(bad(key, value, "the reference of an image"));
                }
                "image" => attributes.image = Some(value.clone()),
                "pullPolicy" => {
                    attributes.pull_policy = Some(match value.as_str() {
                        "Always" => PullPolicy::Always,
                        "IfNotPresent" => PullPolicy::IfNotPresent,
                        "Never" => PullPolicy::Never,
                        _ => return Err(bad(key, value, "Always, IfNotPresent or Never")),
                    });
                }
                "pullAlways" => always = Some(boolean(key, value)?),
                "platform" => {
                    if !is_platform(value) {
                        return Err(bad(key, value, "of the form os/arch or os/arch/variant"));
                    }
                    attributes.platform = Some(value.clone());
                }
                "mountFlags" => {
                    // A flag that takes writing away belongs to `readOnly` of the pod's volume.
                    let known = attributes.flags.add(value.split(',')).is_ok();
                    if !known || attributes.flags.read_only {
                        return Err(bad(
                            key,
                            value,
                            "a list of exec, noexec, suid, nosuid, nodev and noatime",
                        ));
                    }
                }
                "csi.storage.k8s.io/ephemeral" => {
                    attributes.ephemeral = Some(boolean(key, value)?);
                }
                "csi.storage.k8s.io/pod.namespace" => pod.namespace.clone_from(value),
                "csi.storage.k8s.io/pod.name" => pod.name.clone_from(value),
                "csi.storage.k8s.io/pod.uid" => pod.uid.clone_from(value),
                _ if FROM_KUBERNETES.iter().any(|own| key.starts_with(own)) => {}
                _ if LATER.contains(&key.as_str()) => {
                    return Err(AttributeError::NotYet { key: key.clone() });
                }
                _ => return Err(AttributeError::Unknown { key: key.clone() }),
            }
        }
        if let Some(always) = always {
            match (always, attributes.pull_policy) {
                (true, None | Some(PullPolicy::Always)) => {
                    attributes.pull_policy = Some(PullPolicy::Always);
                }
                (true, Some(_)) | (false, Some(PullPolicy::Always)) => {
                    return Err(AttributeError::Contradiction {
                        first: "pullAlways",
                        second: "pullPolicy",
                    });
                }
                (false, _) => {}
            }
        }
        if attributes.image.is_none() {
            for (key, given) in [
                ("pullPolicy", attributes.pull_policy.is_some()),
                ("platform", attributes.platform.is_some()),
            ] {
                if given {
                    return Err(bad(
                        key,
                        &pairs.get(key).cloned().unwrap_or_default(),
                        "of use without the attribute \"image\"",
                    ));
                }
            }
        }
        attributes.pod = (pod != Pod::default()).then_some(pod);
        Ok(attributes)
    }

    /// When the image is looked for outside the store; by default as for a pod's container.
    pub fn effective_pull_policy(&self) -> PullPolicy {
        self.pull_policy.unwrap_or_else(|| {
            let image = self.image.as_deref().unwrap_or_default();
            let tag = image
                .rsplit('/')
                .next()
                .and_then(|last| last.split_once(':'))
                .map(|(_, tag)| tag);
            match tag {
                _ if image.contains('@') => PullPolicy::IfNotPresent,
                None | Some("latest") => PullPolicy::Always,
                Some(_) => PullPolicy::IfNotPresent,
            }
        })
    }
}

fn bad(key: &str, value: &str, expected: &'static str) -> AttributeError {
    AttributeError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, AttributeError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(key, value, "true or false")),
    }
}

fn is_platform(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    matches!(parts.len(), 2 | 3)
        && parts.iter().all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Attributes, AttributeError> {
        Attributes::parse(
            &pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn what_is_known_becomes_typed() {
        let attributes = parse(&[
            ("image", "docker.io/library/busybox:1"),
            ("pullPolicy", "Never"),
            ("platform", "linux/arm/v7"),
            ("mountFlags", "noexec,suid, noatime"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.uid", "u"),
            ("csi.storage.k8s.io/serviceAccount.name", "default"),
            ("storage.kubernetes.io/csiProvisionerIdentity", "x"),
        ])
        .unwrap();
        assert_eq!(attributes.pull_policy, Some(PullPolicy::Never));
        assert_eq!(attributes.ephemeral, Some(true));
        assert_eq!(attributes.pod.unwrap().uid, "u");
        let flags = attributes.flags;
        assert!(flags.no_exec && flags.suid && flags.no_atime && !flags.read_only);
    }

    #[test]
    fn refusals_name_the_key() {
        let cases: [(&[(&str, &str)], &str); 17] = [
            (
                &[("imagee", "x")],
                r#"unknown attribute "imagee"; did you mean "image"?"#,
            ),
            (
                &[("pull-policy", "x")],
                r#"unknown attribute "pull-policy"; did you mean "pullPolicy"?"#,
            ),
            (
                &[("foo", "x")],
                r#"unknown attribute "foo"; there are: image, pullPolicy, pullAlways, platform, mountFlags"#,
            ),
            (
                &[("imgae", "x")],
                r#"unknown attribute "imgae"; did you mean "image"?"#,
            ),
            (
                &[("size", "1Gi")],
                r#"attribute "size" is not supported yet"#,
            ),
            (
                &[("image", "")],
                r#"attribute "image": "" is not the reference of an image"#,
            ),
            (
                &[("image", "a"), ("pullPolicy", "always")],
                r#"attribute "pullPolicy": "always" is not Always, IfNotPresent or Never"#,
            ),
            (
                &[("pullAlways", "yes")],
                r#"attribute "pullAlways": "yes" is not true or false"#,
            ),
            (
                &[
                    ("image", "a"),
                    ("pullAlways", "true"),
                    ("pullPolicy", "Never"),
                ],
                r#"attributes "pullAlways" and "pullPolicy" contradict each other"#,
            ),
            (
                &[("image", "a"), ("platform", "linux")],
                r#"attribute "platform": "linux" is not of the form os/arch or os/arch/variant"#,
            ),
            (
                &[("platform", "linux/arm64")],
                r#"attribute "platform": "linux/arm64" is not of use without the attribute "image""#,
            ),
            (
                &[("mountFlags", "dev")],
                r#"attribute "mountFlags": "dev" is not a list of exec, noexec, suid, nosuid, nodev and noatime"#,
            ),
            (
                &[("mountFlags", "ro")],
                r#"attribute "mountFlags": "ro" is not a list of exec, noexec, suid, nosuid, nodev and noatime"#,
            ),
            (
                &[("csi.storage.k8s.io/ephemeral", "1")],
                r#"attribute "csi.storage.k8s.io/ephemeral": "1" is not true or false"#,
            ),
            (
                &[("images", "a,b")],
                r#"attribute "images" is not supported yet"#,
            ),
            (
                &[("Image", "a")],
                r#"unknown attribute "Image"; did you mean "image"?"#,
            ),
            (
                &[("kubernetes.io/x", "a")],
                r#"unknown attribute "kubernetes.io/x"; there are: image, pullPolicy, pullAlways, platform, mountFlags"#,
            ),
        ];
        for (pairs, text) in cases {
            assert_eq!(parse(pairs).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn the_default_policy_is_that_of_pods() {
        let cases = [
            ("busybox", PullPolicy::Always),
            ("busybox:latest", PullPolicy::Always),
            ("host:5000/busybox", PullPolicy::Always),
            ("host:5000/busybox:1", PullPolicy::IfNotPresent),
            ("busybox@sha256:0", PullPolicy::IfNotPresent),
        ];
        for (image, policy) in cases {
            let attributes = parse(&[("image", image)]).unwrap();
            assert_eq!(attributes.effective_pull_policy(), policy, "{image}");
        }
        let always = parse(&[("image", "a:1"), ("pullAlways", "true")]).unwrap();
        assert_eq!(always.effective_pull_policy(), PullPolicy::Always);
    }
}
