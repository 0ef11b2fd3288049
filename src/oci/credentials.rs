//! Logins: the auth files of Docker and of the containers tools, and Kubernetes' pull secrets.
//!
//! Values that must stay secret are [`Secret`]s: they do not print, and are wiped when dropped.
//! Credential helpers are programs; Strata runs none and says so when one would be needed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::reference::Reference;
use crate::digest::{Algorithm, Hasher};
use crate::sys;

/// The largest auth file that is read.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// A text that does not print and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself: for the request that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token to be exchanged at the token service.
    IdentityToken(Secret),
    /// A token for the registry itself.
    RegistryToken(Secret),
}

/// Why there are no usable credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] sys::Error),
    /// The contents are no auth file. The text is not repeated, for it may be secret.
    #[error("{origin} holds no logins in Docker's form: {reason}")]
    Invalid {
        /// The file or secret.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A credential helper would have to be run.
    #[error(
        "{origin} leaves the login for {host} to the credential helper {helper:?}, and Strata runs no helpers: \
         use `podman login --authfile`"
    )]
    Helper {
        /// The file or secret.
        origin: String,
        /// The registry.
        host: String,
        /// The helper.
        helper: String,
    },
}

/// Where auth files may be: the values of the environment, read by the caller.
#[derive(Clone, Debug, Default)]
pub struct AuthFilePlaces {
    /// `REGISTRY_AUTH_FILE`: the only file, when it is set; it must exist then.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the directory of Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The user's ID.
    pub uid: u32,
}

impl AuthFilePlaces {
    /// The files in the order in which Podman looks at them.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.registry_auth_file {
            return vec![file.clone()];
        }
        let runtime = match &self.runtime_dir {
            Some(dir) => dir.join("containers/auth.json"),
            None => PathBuf::from(format!("/run/containers/{}/auth.json", self.uid)),
        };
        let config = self
            .config_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".config")));
        let docker = self
            .docker_config
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".docker")));
        let mut files = vec![runtime];
        files.extend(config.map(|dir| dir.join("containers/auth.json")));
        files.extend(docker.map(|dir| dir.join("config.json")));
        files
    }
}

/// Logins of one file or secret.
#[derive(Clone, Debug)]
struct AuthFile {
    origin: String,
    logins: BTreeMap<String, Login>,
    helpers: BTreeMap<String, String>,
    default_helper: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Login {
    #[serde(default)]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    identitytoken: Option<Secret>,
    #[serde(default)]
    registrytoken: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    auths: Option<BTreeMap<String, Login>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

impl AuthFile {
    fn parse(bytes: &[u8], origin: &str) -> Result<Self, CredentialsError> {
        // The parser's own text could quote a secret: only the place is told.
        let invalid = |error: serde_json::Error| CredentialsError::Invalid {
            origin: origin.to_owned(),
            reason: format!("line {}, column {}", error.line(), error.column()),
        };
        let raw: RawFile = serde_json::from_slice(bytes).map_err(invalid)?;
        let has_settings = raw.cred_helpers.is_some() || raw.creds_store.is_some();
        let logins = match raw.auths {
            Some(logins) => logins,
            None if has_settings => BTreeMap::new(),
            // The form of before 2015: the logins without a frame around them.
            None => serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(bytes)
                .map_err(invalid)?
                .into_iter()
                .filter(|(_, value)| value.get("auth").is_some())
                .map(|(key, value)| Ok((key, serde_json::from_value(value)?)))
                .collect::<Result<_, serde_json::Error>>()
                .map_err(invalid)?,
        };
        Ok(Self {
            origin: origin.to_owned(),
            logins,
            helpers: raw.cred_helpers.unwrap_or_default(),
            default_helper: raw.creds_store.filter(|helper| !helper.is_empty()),
        })
    }

    fn find(&self, reference: &Reference) -> Result<Option<Credentials>, CredentialsError> {
        let matches = self.logins.iter().filter_map(|(key, login)| {
            key_matches(key, reference).map(|closeness| (closeness, key, login))
        });
        let best = matches.max_by_key(|(closeness, ..)| *closeness);
        if let Some((_, key, login)) = best
            && let Some(found) = self.credentials(key, login)?
        {
            return Ok(Some(found));
        }
        let helper = self
            .helpers
            .iter()
            .find(|(key, _)| key_matches(key, reference).is_some())
            .map(|(_, helper)| helper)
            .or(best.and(self.default_helper.as_ref()));
        match helper {
            Some(helper) => Err(CredentialsError::Helper {
                origin: self.origin.clone(),
                host: reference.host().to_owned(),
                helper: helper.clone(),
            }),
            None => Ok(None),
        }
    }

    fn credentials(
        &self,
        key: &str,
        login: &Login,
    ) -> Result<Option<Credentials>, CredentialsError> {
        let some = |secret: &Option<Secret>| secret.clone().filter(|text| !text.0.is_empty());
        if let Some(token) = some(&login.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(token) = some(&login.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(auth) = some(&login.auth) {
            let invalid = |reason: &str| CredentialsError::Invalid {
                origin: self.origin.clone(),
                reason: format!("the login for {key} {reason}"),
            };
            let text = auth.expose().trim();
            let bytes = STANDARD
                .decode(text)
                .or_else(|_| STANDARD_NO_PAD.decode(text))
                .map_err(|_| invalid("is not base64"))?;
            let text = String::from_utf8(bytes).map_err(|_| invalid("is not UTF-8"))?;
            let text = Zeroizing::new(text);
            let (username, password) = text
                .split_once(':')
                .ok_or_else(|| invalid("has no colon after the user"))?;
            // Docker pads what it writes with zero bytes.
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credentials::Basic {
                username: username.to_owned(),
                password: Secret::new(password.to_owned()),
            }));
        }
        match (&login.username, some(&login.password)) {
            (Some(username), Some(password)) => Ok(Some(Credentials::Basic {
                username: username.clone(),
                password,
            })),
            _ => Ok(None),
        }
    }
}

/// How closely a key of an auth file fits: the length of the part that it names; none when not.
fn key_matches(key: &str, reference: &Reference) -> Option<usize> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (key, ""),
    };
    if !host_matches(host, reference.host()) {
        return None;
    }
    // Docker Hub's login is kept under the address of a registry that is long gone.
    let path = match path {
        "v1" | "v2" => "",
        other => other,
    };
    let repository = reference.repository();
    let is_prefix = path.is_empty()
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_prefix.then_some(path.len())
}

fn host_matches(pattern: &str, host: &str) -> bool {
    fn hub(host: &str) -> &str {
        match host {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        }
    }
    let (pattern, host) = (hub(pattern), hub(host));
    if !pattern.contains('*') {
        return pattern.eq_ignore_ascii_case(host);
    }
    // Kubernetes' pull secrets may say `*.example.com`: a star stands for letters of one label.
    let (patterns, labels): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len()
        && patterns
            .iter()
            .zip(labels)
            .all(|(pattern, label)| label_matches(pattern, label))
}

fn label_matches(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => label.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter_map(|skipped| rest.get(skipped..))
                .any(|rest| label_matches(after, rest))
        }),
    }
}

/// The logins that a pull may use, from several files; the first that fits wins.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    files: Vec<AuthFile>,
}

impl Keyring {
    /// Reads the auth files that exist.
    ///
    /// # Errors
    /// When one can't be read or understood, or the one named by `REGISTRY_AUTH_FILE` is missing.
    pub fn search(places: &AuthFilePlaces) -> Result<Self, CredentialsError> {
        let mut keyring = Self::default();
        for file in places.files() {
            match read_file(&file) {
                Ok(bytes) => keyring.add(&bytes, &file.display().to_string())?,
                Err(error) if error.is_not_found() && places.registry_auth_file.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(keyring)
    }

    /// Reads one auth file, which must exist.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        let mut keyring = Self::default();
        keyring.add(&read_file(path)?, &path.display().to_string())?;
        Ok(keyring)
    }

    /// Adds the logins in `bytes`: an auth file, or the data of a Kubernetes secret of the types
    /// `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`. `origin` is for messages.
    ///
    /// # Errors
    /// When they can't be understood.
    pub fn add(&mut self, bytes: &[u8], origin: &str) -> Result<(), CredentialsError> {
        self.files.push(AuthFile::parse(bytes, origin)?);
        Ok(())
    }

    /// The login for this image's registry and repository, if there is any.
    ///
    /// # Errors
    /// When the login that fits is broken or needs a credential helper.
    pub fn find(&self, reference: &Reference) -> Result<Option<Credentials>, CredentialsError> {
        for file in &self.files {
            if let Some(found) = file.find(reference)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Credentials {
    /// A hash that tells these credentials from others without telling them.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let parts: [&str; 3] = match self {
            Self::Basic { username, password } => ["basic", username, password.expose()],
            Self::IdentityToken(token) => ["identity", token.expose(), ""],
            Self::RegistryToken(token) => ["registry", token.expose(), ""],
        };
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish().hex().to_owned()
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, sys::Error> {
    let file = sys::File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| sys::Error::new("read", path, error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(text: &str) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add(text.as_bytes(), "test").unwrap();
        keyring
    }

    fn login(user: &str) -> String {
        format!(
            r#"{{"auth":"{}"}}"#,
            STANDARD.encode(format!("{user}:hunter2"))
        )
    }

    fn user(keyring: &Keyring, reference: &str) -> Option<String> {
        match keyring.find(&reference.parse().unwrap()).unwrap()? {
            Credentials::Basic { username, .. } => Some(username),
            _ => None,
        }
    }

    #[test]
    fn the_closest_key_wins() {
        let keyring = keyring(&format!(
            r#"{{"auths":{{"quay.io":{},"quay.io/team":{},"quay.io/team/app":{},
            "https://index.docker.io/v1/":{},"*.example.com":{}}}}}"#,
            login("host"),
            login("team"),
            login("app"),
            login("hub"),
            login("star"),
        ));
        for (reference, expected) in [
            ("quay.io/other/app", Some("host")),
            ("quay.io/team/web", Some("team")),
            ("quay.io/team/app", Some("app")),
            ("quay.io/team/app/deep", Some("app")),
            ("quay.io/teams/app", Some("host")),
            ("busybox", Some("hub")),
            ("a.example.com/x", Some("star")),
            ("a.b.example.com/x", None),
            ("ghcr.io/x", None),
        ] {
            assert_eq!(
                user(&keyring, reference).as_deref(),
                expected,
                "{reference}"
            );
        }
    }

    #[test]
    fn every_form_of_login_is_read() {
        let keyring = keyring(
            r#"{"auths":{"a.io":{"username":"u","password":"p"},"b.io":{"identitytoken":"t"},
            "c.io":{"registrytoken":"r"},"d.io":{},"e.io":{"auth":"%%"}},
            "credHelpers":{"f.io":"x"},"credsStore":"desktop"}"#,
        );
        let find = |text: &str| keyring.find(&text.parse().unwrap());
        assert!(matches!(
            find("a.io/x"),
            Ok(Some(Credentials::Basic { .. }))
        ));
        assert!(matches!(
            find("b.io/x"),
            Ok(Some(Credentials::IdentityToken(_)))
        ));
        assert!(matches!(
            find("c.io/x"),
            Ok(Some(Credentials::RegistryToken(_)))
        ));
        for helper in ["d.io/x", "f.io/x"] {
            let error = find(helper).unwrap_err();
            assert!(matches!(error, CredentialsError::Helper { .. }), "{helper}");
        }
        assert!(matches!(
            find("e.io/x"),
            Err(CredentialsError::Invalid { .. })
        ));
        assert!(find("g.io/x").unwrap().is_none());
    }

    #[test]
    fn the_old_form_without_a_frame_is_read() {
        let keyring = keyring(&format!(r#"{{"quay.io":{}}}"#, login("old")));
        assert_eq!(user(&keyring, "quay.io/x").as_deref(), Some("old"));
    }

    #[test]
    fn secrets_do_not_print() {
        let text = format!(r#"{{"auths":{{"quay.io":{}}}}}"#, login("u"));
        let keyring = keyring(&text);
        let printed = format!(
            "{keyring:?} {:?}",
            keyring.find(&"quay.io/x".parse().unwrap())
        );
        assert!(!printed.contains("hunter2") && !printed.contains(&STANDARD.encode("u:hunter2")));
        let error = Keyring::default()
            .add(b"{\"auths\":\"hunter2\"}", "s")
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn files_are_searched_in_podmans_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut places = AuthFilePlaces {
            runtime_dir: Some(at("run")),
            home: Some(at("home")),
            ..AuthFilePlaces::default()
        };
        assert!(Keyring::search(&places).unwrap().files.is_empty());
        for (name, who) in [
            ("run/containers/auth.json", "run"),
            ("home/.config/containers/auth.json", "config"),
            ("home/.docker/config.json", "docker"),
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            let text = format!(r#"{{"auths":{{"{who}.io":{0},"all.io":{0}}}}}"#, login(who));
            std::fs::write(at(name), text).unwrap();
        }
        let keyring = Keyring::search(&places).unwrap();
        assert_eq!(user(&keyring, "all.io/x").as_deref(), Some("run"));
        assert_eq!(user(&keyring, "other.io/x"), None);
        assert_eq!(keyring.files.len(), 3);
        places.registry_auth_file = Some(at("missing"));
        assert!(Keyring::search(&places).is_err());
    }
}
