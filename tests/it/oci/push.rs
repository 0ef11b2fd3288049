//! Pushing: what is sent, what is not, and what happens when the registry does not play along.

use std::time::Duration;

use strata::archive::compression::Compression;
use strata::oci::pull::Trouble;
use strata::oci::{
    Credentials, PushError, PushRequest, Pushed, Pusher, RegistryOptions, Secret, Transport,
};

use super::image::{self, Built};
use super::lonely;
use super::{World, chain};
use crate::support::server::{Door, Mishap, Server};

/// `user:secret`.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// A store that has an image as it came from a layout.
struct Sender {
    world: World,
    built: Built,
    server: Server,
    attempts: u32,
}

impl Sender {
    fn new() -> Self {
        let world = World::new("overlay");
        let layout = world.folder.path().join("layout");
        let built = image::write_busybox_layout(&layout, "x");
        let source = format!("oci:{}", layout.display());
        let mut request = super::request(&source);
        request.names = vec!["localhost/image:x".to_owned()];
        world.puller.pull_here(&request).unwrap();
        Self {
            world,
            built,
            server: Server::start(),
            attempts: 3,
        }
    }

    fn request(&self, repository: &str) -> PushRequest {
        let destination = self.server.reference(repository, "new");
        PushRequest::new("image:x", destination.parse().unwrap())
    }

    fn push(&self, request: &PushRequest) -> Result<Pushed, PushError> {
        let transport = Transport::new(RegistryOptions {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            stall_timeout: Duration::from_millis(300),
            answer_timeout: Duration::from_millis(600),
            attempts: self.attempts,
            ..RegistryOptions::default()
        });
        let runtime = self.world.runtime.handle().clone();
        Pusher::new(self.world.store.clone(), runtime, transport).push_here(request)
    }

    #[track_caller]
    fn assert_fails(&self, request: &PushRequest, trouble: Trouble) -> String {
        let error = self.push(request).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.trouble(), trouble, "{text}");
        let name = self.server.object("/v2/c/d/manifests/new");
        assert!(name.is_none(), "the name leads nowhere: {text}");
        text
    }

    /// Pulls what was pushed into another store.
    #[track_caller]
    fn assert_arrived(&self, repository: &str) {
        let elsewhere = World::new("vfs");
        let pulled = elsewhere
            .pull(&self.server.reference(repository, "new"))
            .unwrap();
        assert_eq!(pulled.image_id, self.built.id);
    }
}

#[test]
fn what_a_registry_lacks_is_sent_in_every_compression() {
    let sender = Sender::new();
    for (repository, compression, media_type) in [
        ("gz/x", Compression::Gzip, "+gzip"),
        ("zstd/x", Compression::Zstd, "+zstd"),
        ("plain/x", Compression::None, "tar\""),
    ] {
        let mut request = sender.request(repository);
        request.compression = compression;
        let pushed = sender.push(&request).unwrap();
        assert_eq!((pushed.layers_sent, pushed.layers_present), (3, 0));
        let (kind, bytes) = sender
            .server
            .object(&format!("/v2/{repository}/manifests/new"))
            .unwrap();
        assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(image::digest(&bytes), pushed.digest.as_str());
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches(media_type).count(), 3, "{text}");
        sender.assert_arrived(repository);
        let again = sender.push(&request).unwrap();
        assert_eq!(again.digest, pushed.digest);
    }
}

#[test]
fn what_a_registry_has_is_used_as_it_is() {
    let sender = Sender::new();
    let layout = sender.world.folder.path().join("layout");
    // The repository has the blobs as they came here.
    sender.server.add_layout(&layout, "c/d", "old");
    let pushed = sender.push(&sender.request("c/d")).unwrap();
    assert_eq!((pushed.layers_sent, pushed.bytes_sent), (0, 0));
    assert_eq!(pushed.digest.as_str(), sender.built.manifest_digest);
    assert_eq!(sender.server.count("POST", "uploads"), 0);
    sender.assert_arrived("c/d");
    // Another repository can have them from there, as an image of the store came from it.
    let name = sender.server.reference("c/d", "old");
    sender
        .world
        .store
        .add_names(&sender.built.id, &[name])
        .unwrap();
    let pushed = sender.push(&sender.request("other/repository")).unwrap();
    assert_eq!(pushed.layers_sent, 0);
    assert_eq!(pushed.digest.as_str(), sender.built.manifest_digest);
    assert_eq!(
        sender
            .server
            .count("POST", "other/repository/blobs/uploads/?mount="),
        3
    );
    assert_eq!(sender.server.count("PATCH", ""), 0);
    sender.assert_arrived("other/repository");
}

#[test]
fn a_mount_that_is_not_granted_is_an_upload() {
    let sender = Sender::new();
    let name = sender.server.reference("empty", "old");
    sender
        .world
        .store
        .add_names(&sender.built.id, &[name])
        .unwrap();
    let pushed = sender.push(&sender.request("c/d")).unwrap();
    assert_eq!(pushed.layers_sent, 3);
    assert_eq!(sender.server.count("POST", "?mount="), 3);
    assert_eq!(sender.server.count("DELETE", "uploads"), 3);
    sender.assert_arrived("c/d");
}

#[test]
fn passing_failures_are_overcome() {
    let mut sender = Sender::new();
    // All of them may meet the same layer.
    sender.attempts = 8;
    for (path, mishap) in [
        ("uploads/", Mishap::Status(503, String::new())),
        ("uploads/2", Mishap::Status(500, String::new())),
        ("uploads/3", Mishap::Early(502)),
        (
            "manifests",
            Mishap::Status(429, "Retry-After: 0\r\n".into()),
        ),
        ("blobs/sha256", Mishap::Status(500, String::new())),
        // The answers that are lost: of bytes, of a finished blob, of the manifest.
        ("uploads/4?state=x", Mishap::Unanswered),
        ("digest=", Mishap::Unanswered),
        ("manifests/new", Mishap::Unanswered),
    ] {
        sender.server.mishap(path, mishap);
    }
    let pushed = sender.push(&sender.request("c/d")).unwrap();
    assert_eq!(pushed.layers_sent, 3);
    sender.assert_arrived("c/d");
}

#[test]
fn failures_that_stay_say_what_they_are() {
    let sender = Sender::new();
    let request = sender.request("c/d");
    let always = |path: &str, mishap: &Mishap| {
        for _ in 0..40 {
            sender.server.mishap(path, mishap.clone());
        }
    };
    for (path, mishap, trouble, expected) in [
        (
            "uploads/",
            Mishap::Status(403, String::new()),
            Trouble::Denied,
            "forbids access",
        ),
        (
            "uploads/",
            Mishap::Status(404, String::new()),
            Trouble::NotFound,
            "the repository",
        ),
        (
            "?state=",
            Mishap::Status(413, String::new()),
            Trouble::Unsupported,
            "larger than",
        ),
        (
            "uploads/",
            Mishap::Status(405, String::new()),
            Trouble::Unsupported,
            "only be read",
        ),
        (
            "manifests",
            Mishap::Status(400, String::new()),
            Trouble::Unsupported,
            "refuses",
        ),
        (
            "?state=",
            Mishap::Status(500, String::new()),
            Trouble::Unavailable,
            "answered 500",
        ),
        (
            "?state=",
            Mishap::Silence,
            Trouble::Unavailable,
            "does not answer",
        ),
        (
            "uploads/",
            Mishap::Status(202, String::new()),
            Trouble::Unavailable,
            "no usable place",
        ),
    ] {
        always(path, &mishap);
        let text = sender.assert_fails(&request, trouble);
        assert!(text.contains(expected), "{mishap:?}: {text}");
        sender.server.forget_mishaps();
    }
    sender.push(&request).unwrap();
}

#[test]
fn logins_of_every_kind_push() {
    let sender = Sender::new();
    let mut request = sender.request("c/d");
    sender.server.set_door(Door::Basic(BASIC.into()));
    let text = sender.assert_fails(&request, Trouble::Unauthenticated);
    assert!(text.contains("no login for it is known"), "{text}");
    let login = |password: &str| {
        Some(Credentials::Basic {
            username: "user".into(),
            password: Secret::new(password.into()),
        })
    };
    request.credentials = login("wrong");
    let text = sender.assert_fails(&request, Trouble::Unauthenticated);
    assert!(text.contains("user") && !text.contains("wrong"), "{text}");
    request.credentials = login("secret");
    sender.push(&request).unwrap();

    sender.server.set_door(Door::Token(Some(BASIC.into())));
    // Tokens run out in the middle.
    sender.server.set_token_uses(5);
    let mut request = sender.request("e/f");
    request.credentials = login("secret");
    sender.push(&request).unwrap();
    assert_eq!(
        sender.server.count("GET", "/token"),
        2,
        "one, and one when it had run out"
    );
    let asked = sender.server.seen();
    let asked = asked
        .iter()
        .find(|seen| seen.path.starts_with("/token"))
        .unwrap();
    assert!(
        asked.path.contains("repository%3Ae%2Ff%3Apull%2Cpush"),
        "{}",
        asked.path
    );
}

#[test]
fn the_login_does_not_go_where_an_upload_is_sent() {
    if !lonely::is_inside("oci::push::the_login_does_not_go_where_an_upload_is_sent") {
        return;
    }
    let sender = Sender::new();
    sender.server.set_door(Door::Basic(BASIC.into()));
    let storage = Server::start();
    let place = format!(
        "Location: http://{}/v2/c/d/blobs/uploads/1?state=x\r\n",
        storage.address
    );
    sender.server.mishap("uploads/", Mishap::Status(202, place));
    let mut request = sender.request("c/d");
    request.lanes = 1;
    request.credentials = Some(Credentials::Basic {
        username: "user".into(),
        password: Secret::new("secret".into()),
    });
    // That storage has begun no upload, so the registry is asked again for a place.
    let pushed = sender.push(&request);
    let seen = storage.seen();
    assert!(!seen.is_empty());
    for seen in &seen {
        assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
    }
    assert_eq!(pushed.unwrap_err().trouble(), Trouble::Unsupported);
}

#[test]
fn a_layer_that_has_changed_in_the_store_is_not_pushed() {
    let sender = Sender::new();
    let graph = sender.world.folder.path().join("graph/overlay");
    let layers = sender.world.store.layers().unwrap();
    let changed = layers
        .iter()
        .map(|layer| graph.join(&layer.id).join("diff/data/greeting"))
        .find(|file| file.exists())
        .unwrap();
    std::fs::write(&changed, "hello from layer 2.0\n").unwrap();
    let request = sender.request("c/d");
    let text = sender.assert_fails(&request, Trouble::Corrupt);
    assert!(text.contains("data/greeting"), "{text}");
    assert_eq!(sender.server.count("PUT", "manifests"), 0);
}

#[test]
fn a_registry_that_takes_no_more_bytes_is_given_up() {
    if !lonely::is_inside("oci::push::a_registry_that_takes_no_more_bytes_is_given_up") {
        return;
    }
    let sender = Sender::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let place = format!("Location: http://{address}/x\r\n");
    for _ in 0..10 {
        sender
            .server
            .mishap("uploads/", Mishap::Status(202, place.clone()));
    }
    let mut request = sender.request("c/d");
    request.compression = Compression::None;
    // Connections are made, and nobody reads from them.
    let text = sender.assert_fails(&request, Trouble::Unavailable);
    assert!(
        text.contains("takes no more bytes") || text.contains("does not answer"),
        "{text}"
    );
    drop(listener);
}
