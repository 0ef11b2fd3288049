//! [`Reference`]: `host/name:tag@digest`, and [`ImageSource`]: where an image comes from.
//!
//! Short names are completed as Docker and the containers tools do: no host means `docker.io`,
//! a single word there means `library/word`, neither tag nor digest means `latest`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;

const DOCKER_HUB: &str = "docker.io";
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;
/// Transports of the containers tools that Strata can't read, so that the message can say so.
const FOREIGN_TRANSPORTS: [&str; 8] = [
    "atomic",
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "ostree",
    "sif",
    "tarball",
];

/// An image in a registry, normalised: the host is always there, and a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: String,
}

impl Reference {
    /// Reads the name of an image that is made here: where a name without a host would be Docker
    /// Hub's, it is `localhost/`'s, as in Podman and Buildah.
    ///
    /// # Errors
    /// When the text names no image.
    pub fn parse_local(text: &str) -> Result<Self, ParseReferenceError> {
        let has_host = text
            .split_once('/')
            .is_some_and(|(first, _)| looks_like_host(first));
        if has_host || text.is_empty() || is_hex_id(text) {
            return text.parse();
        }
        format!("localhost/{text}")
            .parse()
            .map_err(|error: ParseReferenceError| ParseReferenceError {
                text: text.to_owned(),
                ..error
            })
    }

    /// The registry's host and port as names show it, `docker.io` for Docker Hub.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path in the registry, `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none when only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the manifest must have, when one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The name under which the store keeps the image: with a digest, the tag is left out, since it
    /// was not looked up.
    pub fn storage_name(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}/{}@{digest}", self.host, self.repository),
            None => self.to_string(),
        }
    }

    /// `host/repository` without tag and digest.
    pub fn without_target(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: String| ParseReferenceError {
            text: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(fail("it is empty".into()));
        }
        if is_hex_id(text) {
            return Err(fail("it is an image ID; name a repository".into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse::<Digest>()
                    .map_err(|error| fail(error.to_string()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the host's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(&fail)?;
        }
        let (host, repository) = split_host(name);
        check_host(&host).map_err(&fail)?;
        check_repository(&repository).map_err(&fail)?;
        if host.len() + 1 + repository.len() > LONGEST_REPOSITORY {
            return Err(fail(format!(
                "the repository is longer than {LONGEST_REPOSITORY} characters"
            )));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            host,
            repository,
            tag,
            digest,
        })
    }
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The host and the repository, both completed.
fn split_host(name: &str) -> (String, String) {
    let (host, repository) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => (DOCKER_HUB, name),
    };
    let host = if host == "index.docker.io" {
        DOCKER_HUB
    } else {
        host
    };
    if host == DOCKER_HUB && !repository.contains('/') {
        (host.to_owned(), format!("library/{repository}"))
    } else {
        (host.to_owned(), repository.to_owned())
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), String> {
    let wrong = || format!("{host:?} is not a host");
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            match port.strip_prefix(':') {
                Some(port) => ("", Some(port)),
                None if port.is_empty() => ("", None),
                None => return Err(wrong()),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if !host.starts_with('[') {
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !name.split('.').all(is_label) {
            return Err(wrong());
        }
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => Err(format!("{port:?} is not a port")),
        _ => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing".into());
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("the repository {repository:?} must be lower case"));
    }
    match repository.split('/').find(|part| !is_path_part(part)) {
        Some(part) => Err(format!(
            "{part:?} is not a part of a repository: lower-case letters and digits, joined by one \
             of . _ __ or dashes"
        )),
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_part(part: &str) -> bool {
    let is_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && bytes.split(|byte| is_word(*byte)).all(|joint| {
            matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|byte| *byte == b'-')
        })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_good = !tag.is_empty()
        && tag.len() <= LONGEST_TAG
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if is_good {
        Ok(())
    } else {
        Err(format!(
            "{tag:?} is not a tag: letters, digits, _ . and -, at most {LONGEST_TAG}"
        ))
    }
}

/// Where an image comes from: `[docker://]REFERENCE`, `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageSource {
    /// A registry.
    Registry(Reference),
    /// An OCI image layout in a directory.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The image in it, by its `org.opencontainers.image.ref.name`; none when there is only one.
        name: Option<String>,
    },
    /// An OCI image layout in a tar file, compressed or not.
    Archive {
        /// The file.
        file: PathBuf,
        /// The image in it, as for a directory.
        name: Option<String>,
    },
}

impl FromStr for ImageSource {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: String| ParseReferenceError {
            text: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(rest.parse()?));
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return Ok(Self::Registry(text.parse()?));
        };
        if transport == "docker" {
            return Err(fail("write docker://NAME, or the name alone".into()));
        }
        if FOREIGN_TRANSPORTS.contains(&transport) {
            return Err(fail(format!(
                "Strata reads registries, oci:DIR[:NAME] and oci-archive:FILE[:NAME], not {transport}:"
            )));
        }
        if transport != "oci" && transport != "oci-archive" {
            return Ok(Self::Registry(text.parse()?));
        }
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(fail(format!("the path after {transport}: is missing")));
        }
        if name == Some("") {
            return Err(fail("the name after the last colon is missing".into()));
        }
        let (path, name) = (PathBuf::from(path), name.map(str::to_owned));
        Ok(match transport {
            "oci" => Self::Layout { dir: path, name },
            _ => Self::Archive { file: path, name },
        })
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return reference.fmt(formatter),
            Self::Layout { dir, name } => ("oci", dir, name),
            Self::Archive { file, name } => ("oci-archive", file, name),
        };
        write!(formatter, "{transport}:{}", path.display())?;
        match name {
            Some(name) => write!(formatter, ":{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_completed() {
        let digested = format!("docker.io/library/busybox@{DIGEST}");
        let cases = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
            ),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app:x", "localhost/app:x"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("[::1]:5000/a:t", "[::1]:5000/a:t"),
            (
                "host:5000/a__b/c-d---e.f",
                "host:5000/a__b/c-d---e.f:latest",
            ),
            ("quay.io/x/y:V1_.-", "quay.io/x/y:V1_.-"),
            (&format!("busybox@{DIGEST}"), &digested),
        ];
        for (text, expected) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), expected, "{text}");
            assert_eq!(
                reference.to_string().parse::<Reference>().unwrap(),
                reference
            );
        }
    }

    #[test]
    fn what_is_made_here_is_local() {
        let local = |text: &str| Reference::parse_local(text).map(|found| found.to_string());
        assert_eq!(local("web").unwrap(), "localhost/web:latest");
        assert_eq!(local("team/web:1").unwrap(), "localhost/team/web:1");
        assert_eq!(
            local("docker.io/web").unwrap(),
            "docker.io/library/web:latest"
        );
        assert_eq!(local("host:5000/web").unwrap(), "host:5000/web:latest");
        let error = local("Web").unwrap_err().to_string();
        assert!(error.starts_with("\"Web\""), "{error}");
        assert!(local("").is_err() && local(&DIGEST[7..]).is_err());
    }

    #[test]
    fn a_digest_wins_over_the_tag() {
        let reference: Reference = format!("quay.io/a/b:t@{DIGEST}").parse().unwrap();
        assert_eq!(reference.target(), DIGEST);
        assert_eq!(reference.tag(), Some("t"));
        assert_eq!(reference.storage_name(), format!("quay.io/a/b@{DIGEST}"));
    }

    #[test]
    fn wrong_references_are_refused() {
        let long = format!("a/{}", "b".repeat(300));
        let cases = [
            ("", "empty"),
            ("Busybox", "lower case"),
            ("quay.io/", "missing"),
            ("a//b", "not a part"),
            ("a/-b", "not a part"),
            ("a/b.", "not a part"),
            ("a/b___c", "not a part"),
            ("a:b:c", "not a part"),
            ("a:", "not a tag"),
            ("a:-x", "not a tag"),
            ("a@sha256:12", "not a digest"),
            ("host:99999/a", "not a port"),
            ("-x.y/a", "not a host"),
            ("a b", "not a part"),
            (&DIGEST[7..], "image ID"),
            (&long, "longer"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn transports_choose_the_source() {
        let layout: ImageSource = "oci:/a/b:docker.io/x:1".parse().unwrap();
        assert_eq!(
            layout,
            ImageSource::Layout {
                dir: "/a/b".into(),
                name: Some("docker.io/x:1".into())
            }
        );
        assert_eq!(layout.to_string(), "oci:/a/b:docker.io/x:1");
        let archive: ImageSource = "oci-archive:x.tar".parse().unwrap();
        assert_eq!(
            archive,
            ImageSource::Archive {
                file: "x.tar".into(),
                name: None
            }
        );
        for text in ["docker://busybox", "busybox:latest"] {
            let source: ImageSource = text.parse().unwrap();
            assert_eq!(source.to_string(), "docker.io/library/busybox:latest");
        }
        for text in [
            "oci:",
            "oci:/x:",
            "docker:busybox",
            "dir:/x",
            "docker-archive:/x",
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text}");
        }
    }
}
