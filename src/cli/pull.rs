//! `pull`: brings an image into the store.

use std::path::Path;

use serde::Serialize;

use super::authorities;
use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{progress, session};
use crate::oci::pull::{Policy, PullerOptions, Trouble};
use crate::oci::{
    AuthFilePlaces, Credentials, ImageSource, Keyring, PullError, PullRequest, Pulled, Puller,
    Reference, RegistryOptions, Transport,
};

/// Flags for talking to a registry.
pub(super) const REGISTRY: &[Flag] = &[
    Flag::value("authfile", None, "File with logins ($REGISTRY_AUTH_FILE)"),
    Flag::value(
        "secret-file",
        None,
        "Login in the form of a Kubernetes pull secret (.dockerconfigjson)",
    ),
    Flag::value(
        "cert-dir",
        None,
        "Folder whose *.crt are authorities for the registry (default /etc/containers/certs.d/HOST)",
    ),
    Flag::switch(
        "plain-http",
        None,
        "Talk plain http to this registry (to loopback it always may)",
    ),
];
const PULL: &[Flag] = &[
    Flag::values(
        "name",
        Some('n'),
        "Name for the image instead of its own; may be given several times",
    ),
    Flag::value(
        "platform",
        None,
        "Platform as OS/ARCH[/VARIANT] (default: this machine's)",
    ),
    Flag::one_of(
        "policy",
        &["always", "missing", "never"],
        "When to ask the source (default: always; layers that are present are not fetched)",
    ),
    Flag::switch("quiet", Some('q'), "Print nothing but the image ID"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] =
    &[
        Definition::own("pull", "Bring an image into the store", Run::Alone(pull))
            .operands("REFERENCE", 1, 1)
            .flags(&[REGISTRY, PULL, session::PULL_LIMITS, output::JSON]),
    ];

/// What was pulled, as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    names: &'a [String],
    #[serde(rename = "layers-fetched")]
    layers_fetched: usize,
    #[serde(rename = "layers-reused")]
    layers_reused: usize,
    #[serde(rename = "bytes-fetched")]
    bytes_fetched: u64,
    #[serde(rename = "was-present")]
    was_present: bool,
}

/// `pull`.
fn pull(given: &Given, output: &mut Output) -> Outcome {
    let source: ImageSource = given
        .operand(0)
        .parse()
        .map_err(|error| Failure::because(&error))?;
    let mut request = PullRequest::new(source.clone());
    request.policy = match given.text("policy") {
        Some("missing") => Policy::IfNotPresent,
        Some("never") => Policy::Never,
        _ => Policy::Always,
    };
    request.platform = match given.filled("platform") {
        Some(text) => Some(text.parse().map_err(|error| Failure::because(&error))?),
        None => None,
    };
    request.names = given.texts("name");
    let mut registry = RegistryOptions::default();
    if let ImageSource::Registry(reference) = &source {
        request.credentials = credentials(given, reference)?;
        registry.authorities = authorities::of(given, reference.host())?;
        if given.has("plain-http") {
            registry.insecure.insert(reference.host().to_owned());
        }
    }
    if !given.has("quiet") {
        request.progress = progress::of("fetch");
    }
    let store = session::open(given)?;
    let runtime = session::runtime()?;
    let handle = runtime.handle().clone();
    let transport = Transport::new(registry);
    let mut options = PullerOptions::default();
    session::limit_pulls(given, &mut options)?;
    let puller = Puller::new(store, handle, transport, options);
    let pulled = puller.pull_here(&request);
    // Bars end before anything else is written.
    drop(request);
    let pulled = pulled.map_err(|error| failure(&error, &source))?;
    print(&pulled, given, output)
}

fn print(pulled: &Pulled, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        output.json(&Printed {
            id: &pulled.image_id,
            digest: pulled.digest.as_ref().map(|digest| digest.as_str()),
            names: &pulled.names,
            layers_fetched: pulled.layers_fetched,
            layers_reused: pulled.layers_reused,
            bytes_fetched: pulled.bytes_fetched,
            was_present: pulled.was_present,
        })?;
    } else {
        output.line(&pulled.image_id)?;
    }
    Ok(0)
}

/// The login: from the file that was named, else from where Podman and Docker keep theirs.
pub(super) fn credentials(
    given: &Given,
    reference: &Reference,
) -> Result<Option<Credentials>, Failure> {
    let named = given.filled("secret-file").or(given.filled("authfile"));
    let keyring = match named {
        Some(file) => Keyring::from_file(Path::new(file)),
        None => Keyring::search(&AuthFilePlaces {
            registry_auth_file: session::path_variable("REGISTRY_AUTH_FILE"),
            runtime_dir: session::path_variable("XDG_RUNTIME_DIR"),
            config_home: session::path_variable("XDG_CONFIG_HOME"),
            docker_config: session::path_variable("DOCKER_CONFIG"),
            home: session::path_variable("HOME"),
            uid: rustix::process::geteuid().as_raw(),
        }),
    };
    keyring
        .and_then(|keyring| keyring.find(reference))
        .map_err(|error| Failure::because(&error))
}

/// What went wrong, and the way out.
fn failure(error: &PullError, source: &ImageSource) -> Failure {
    let failure = Failure::because(error);
    let host = match source {
        ImageSource::Registry(reference) => reference.host(),
        ImageSource::Layout { .. } | ImageSource::Archive { .. } => "",
    };
    if matches!(error, PullError::Absent(_)) {
        return failure.advise("leave out --policy never, and it is fetched");
    }
    let advice = match error.trouble() {
        Trouble::NotFound => "check the name, the tag and --platform".to_owned(),
        Trouble::Unauthenticated => {
            format!("log in with `podman login {host}`, or name a login with --authfile")
        }
        Trouble::Denied => format!("ask who runs {host} for access, or give another login"),
        Trouble::Unavailable => "try again later".to_owned(),
        Trouble::NoSpace => "free some space; `strata gc` removes leftovers".to_owned(),
        Trouble::Corrupt => "the image must be built or pushed again".to_owned(),
        Trouble::Damaged => "`strata check` tells what is damaged in the store".to_owned(),
        Trouble::TooLarge | Trouble::Unsupported | Trouble::Internal => return failure,
    };
    failure.advise(advice)
}
