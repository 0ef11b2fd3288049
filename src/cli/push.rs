//! `push`: sends an image to a registry or a layout.

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{authorities, commit, progress, pull, session};
use crate::archive::compression::Compression;
use crate::oci::pull::Trouble;
use crate::oci::{ImageSource, PushError, PushRequest, Pushed, Pusher, RegistryOptions, Transport};

const PUSH: &[Flag] = &[
    Flag::one_of(
        "compression",
        &["gzip", "zstd", "none"],
        "How layers are compressed that the destination does not have (default: gzip)",
    ),
    Flag::value(
        "digestfile",
        None,
        "Write the digest of the pushed manifest to this file",
    ),
    Flag::value(
        "push-lanes",
        None,
        "Layers that are compressed and sent at the same time (default 2)",
    ),
    Flag::switch(
        "quiet",
        Some('q'),
        "Print nothing but the digest of the manifest",
    ),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "push",
    "Send an image to a registry, oci:DIR[:NAME] or oci-archive:FILE[:NAME]",
    Run::Alone(push),
)
.operands("IMAGE [DESTINATION]", 1, 2)
.flags(&[pull::REGISTRY, PUSH, output::JSON])];

/// What was pushed, as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    digest: &'a str,
    size: u64,
    destination: String,
    #[serde(rename = "layers-sent")]
    layers_sent: usize,
    #[serde(rename = "layers-present")]
    layers_present: usize,
    #[serde(rename = "bytes-sent")]
    bytes_sent: u64,
}

/// `push`.
fn push(given: &Given, output: &mut Output) -> Outcome {
    let image = given.operand(0);
    // Without a destination the image goes where its name says.
    let destination: ImageSource = given
        .find_operand(1)
        .unwrap_or(image)
        .parse()
        .map_err(|error| Failure::because(&error))?;
    let mut request = PushRequest::new(image, destination.clone());
    request.compression = match given.text("compression") {
        Some("zstd") => Compression::Zstd,
        Some("none") => Compression::None,
        _ => Compression::Gzip,
    };
    if let Some(lanes) = session::amount(given, "push-lanes")? {
        request.lanes = usize::try_from(lanes).unwrap_or(usize::MAX);
    }
    let mut registry = RegistryOptions::default();
    if let ImageSource::Registry(reference) = &destination {
        request.credentials = pull::credentials(given, reference)?;
        registry.authorities = authorities::of(given, reference.host())?;
        if given.has("plain-http") {
            registry.insecure.insert(reference.host().to_owned());
        }
    }
    if !given.has("quiet") {
        request.progress = progress::of("push");
    }
    let store = session::open(given)?;
    let runtime = session::runtime()?;
    let pusher = Pusher::new(store, runtime.handle().clone(), Transport::new(registry));
    let pushed = pusher.push_here(&request);
    // Bars end before anything else is written.
    drop(request);
    let pushed = pushed.map_err(|error| failure(&error, &destination))?;
    if let Some(path) = given.filled("digestfile") {
        commit::write(path, pushed.digest.as_str())?;
    }
    print(&pushed, &destination, given, output)
}

fn print(
    pushed: &Pushed,
    destination: &ImageSource,
    given: &Given,
    output: &mut Output,
) -> Outcome {
    if given.has("json") {
        output.json(&Printed {
            digest: pushed.digest.as_str(),
            size: pushed.size,
            destination: destination.to_string(),
            layers_sent: pushed.layers_sent,
            layers_present: pushed.layers_present,
            bytes_sent: pushed.bytes_sent,
        })?;
    } else {
        output.line(&pushed.digest)?;
    }
    Ok(0)
}

/// What went wrong, and the way out.
fn failure(error: &PushError, destination: &ImageSource) -> Failure {
    let failure = Failure::because(error);
    let host = match destination {
        ImageSource::Registry(reference) => reference.host(),
        ImageSource::Layout { .. } | ImageSource::Archive { .. } => "",
    };
    match error {
        PushError::Unknown(_) => {
            return failure.advise("`strata images` lists the images of the store");
        }
        PushError::NoManifest(_) => {
            return failure.advise(
                "make one of it: `strata create-container`, then `strata commit` of the container",
            );
        }
        _ => {}
    }
    let advice = match error.trouble() {
        Trouble::Unauthenticated => {
            format!("log in with `podman login {host}`, or name a login with --authfile")
        }
        Trouble::Denied => format!("ask who runs {host} for access, or give another login"),
        Trouble::NotFound if !host.is_empty() => {
            format!(
                "check the name; some registries want a repository to be made first: ask {host}"
            )
        }
        Trouble::Unavailable => "try again later: what has been sent is not sent again".to_owned(),
        Trouble::NoSpace => "free some space where the image goes".to_owned(),
        Trouble::Corrupt => {
            "the layer has changed in the store: `strata pull` the image again".to_owned()
        }
        Trouble::Damaged => "`strata check` tells what is damaged in the store".to_owned(),
        Trouble::NotFound | Trouble::TooLarge | Trouble::Unsupported | Trouble::Internal => {
            return failure;
        }
    };
    failure.advise(advice)
}
