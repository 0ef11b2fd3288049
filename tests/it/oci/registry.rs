//! Pulls from a registry that refuses, redirects, breaks off and lies.
//!
//! Everything stays on loopback addresses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strata::oci::pull::{Policy, PullerOptions, Trouble};
use strata::oci::{Credentials, Secret};

use super::image::{self, Built};
use super::lonely;
use super::{World, chain, request, three_layers};
use crate::support::server::{Door, Mishap, Server};

/// A store, and a registry that has `a/b:x`.
fn world(driver: &str) -> (World, Server, Built, String) {
    let world = World::new(driver);
    let layout = world.folder.path().join("layout");
    let built = image::write_layout(&layout, "x", &three_layers());
    let server = Server::start();
    server.add_layout(&layout, "a/b", "x");
    let reference = server.reference("a/b", "x");
    (world, server, built, reference)
}

fn basic() -> Credentials {
    Credentials::Basic {
        username: "user".into(),
        password: Secret::new("pass".into()),
    }
}

/// `user:pass`
const BASIC: &str = "Basic dXNlcjpwYXNz";

#[test]
fn an_open_registry_serves_everybody() {
    let (world, server, built, reference) = world("overlay");
    let pulled = world.pull(&reference).unwrap();
    assert_eq!(pulled.image_id, built.id);
    assert_eq!(pulled.names[0], reference);
    let requests = server.seen().len();
    let again = world.pull(&reference).unwrap();
    assert!(again.was_present);
    assert_eq!(
        server.seen().len(),
        requests,
        "a present image needs no registry"
    );
    let mut always = request(&reference);
    always.policy = Policy::Always;
    assert!(world.puller.pull_here(&always).unwrap().was_present);
    assert_eq!(
        server.seen().len(),
        requests + 2,
        "only manifest and config"
    );
    let by_digest = format!("{}/a/b@{}", server.address, built.manifest_digest);
    assert!(world.pull(&by_digest).unwrap().was_present);
}

#[test]
fn logins_are_made_as_the_registry_asks() {
    let identity = Credentials::IdentityToken(Secret::new("id-1".into()));
    let cases = [
        (Door::Basic(BASIC.into()), Some(basic())),
        (Door::Token(None), None),
        (Door::Token(Some(BASIC.into())), Some(basic())),
        (Door::Identity("id-1".into()), Some(identity)),
    ];
    for (door, credentials) in cases {
        let (world, server, built, reference) = world("vfs");
        server.set_door(door.clone());
        let mut request = request(&reference);
        request.credentials = credentials;
        let pulled = world.puller.pull_here(&request).unwrap();
        assert_eq!(pulled.image_id, built.id, "{door:?}");
        let asked = server
            .seen()
            .iter()
            .filter(|seen| seen.path.starts_with("/token"))
            .count();
        assert!(asked <= 1, "{door:?}: one token is enough");
    }
}

#[test]
fn a_token_that_runs_out_is_replaced_in_the_middle() {
    let (world, server, built, reference) = world("vfs");
    server.set_door(Door::Token(None));
    server.set_token_uses(2);
    assert_eq!(world.pull(&reference).unwrap().image_id, built.id);
    let asked = server
        .seen()
        .iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .count();
    assert_eq!(asked, 2);
}

#[test]
fn wrong_and_missing_logins_are_told_apart_from_failures() {
    for door in [
        Door::Basic("Basic other".into()),
        Door::Token(Some("Basic other".into())),
    ] {
        let (world, server, _, reference) = world("vfs");
        server.set_door(door);
        let text = world.assert_fails(&reference, Trouble::Unauthenticated);
        assert!(text.contains("no login for it is known"), "{text}");
        let mut request = request(&reference);
        request.credentials = Some(basic());
        let error = world.puller.pull_here(&request).unwrap_err();
        assert_eq!(error.trouble(), Trouble::Unauthenticated);
        let text = error.to_string();
        assert!(
            text.contains("\"user\"") && !text.contains("pass"),
            "{text}"
        );
    }
}

#[test]
fn statuses_become_troubles() {
    let (world, server, _, reference) = world("vfs");
    let missing = server.reference("a/b", "other");
    world.assert_fails(&missing, Trouble::NotFound);
    server.mishap("manifests", Mishap::Status(403, String::new()));
    world.assert_fails(&reference, Trouble::Denied);
    for _ in 0..5 {
        server.mishap("manifests", Mishap::Status(500, String::new()));
    }
    world.assert_fails(&reference, Trouble::Unavailable);
    server.mishap("manifests", Mishap::Body(b"<html>".to_vec()));
    world.assert_fails(&reference, Trouble::Corrupt);
    server.mishap("manifests", Mishap::Body(vec![b' '; 5 << 20]));
    world.assert_fails(&reference, Trouble::TooLarge);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    world.assert_fails(&format!("{address}/a/b:x"), Trouble::Unavailable);
}

#[test]
fn passing_failures_are_waited_for() {
    let (world, server, built, reference) = world("vfs");
    server.mishap(
        "manifests",
        Mishap::Status(429, "Retry-After: 0\r\n".into()),
    );
    server.mishap("manifests", Mishap::Status(503, String::new()));
    server.mishap("manifests", Mishap::Cut(10));
    server.mishap("blobs", Mishap::Status(500, String::new()));
    server.mishap(&built.layer_digests[1], Mishap::Silence);
    assert_eq!(world.pull(&reference).unwrap().image_id, built.id);
}

#[test]
fn cut_streams_go_on_where_they_stopped() {
    for driver in ["vfs", "overlay"] {
        let (world, server, built, reference) = world(driver);
        let layer = &built.layer_digests[0];
        for length in [200_000, 0, 100_000] {
            server.mishap(layer, Mishap::Cut(length));
        }
        server.mishap(layer, Mishap::NoRange);
        assert_eq!(world.pull(&reference).unwrap().image_id, built.id);
        let ranges: Vec<_> = server
            .seen()
            .iter()
            .filter(|seen| seen.path.contains(layer.as_str()))
            .map(|seen| seen.headers.get("range").cloned().unwrap_or_default())
            .collect();
        assert_eq!(ranges[..2], ["", "bytes=200000-"]);
        assert_eq!(ranges.last().unwrap(), "bytes=300000-");
    }
}

#[test]
fn a_stream_that_only_breaks_is_given_up() {
    let (world, server, built, reference) = world("overlay");
    for _ in 0..20 {
        server.mishap(&built.layer_digests[0], Mishap::Cut(0));
    }
    world.assert_fails(&reference, Trouble::Unavailable);
}

#[test]
fn lies_about_bytes_are_noticed() {
    let (world, server, built, reference) = world("overlay");
    for layer in &built.layer_digests {
        server.mishap(layer, Mishap::Truncated(20));
        world.assert_fails(&reference, Trouble::Corrupt);
        server.mishap(layer, Mishap::Body(vec![7; 5000]));
        world.assert_fails(&reference, Trouble::Corrupt);
    }
    let config = format!("blobs/sha256:{}", built.id);
    server.mishap(&config, Mishap::Body(b"{}".to_vec()));
    world.assert_fails(&reference, Trouble::Corrupt);
    let by_digest = format!("{}/a/b@{}", server.address, built.manifest_digest);
    server.mishap("manifests", Mishap::Body(b"{}".to_vec()));
    world.assert_fails(&by_digest, Trouble::Corrupt);
    let wrong = format!("Docker-Content-Digest: {}\r\n", image::digest(b"x"));
    server.mishap("manifests", Mishap::Status(200, wrong));
    world.assert_fails(&reference, Trouble::Corrupt);
    world.pull(&reference).unwrap();
}

#[test]
fn a_redirect_gets_no_login_of_another_host() {
    let name = "oci::registry::a_redirect_gets_no_login_of_another_host";
    if !lonely::is_inside(name) {
        return;
    }
    let (world, server, built, reference) = world("vfs");
    let other = Server::start();
    other.add_layout(&world.folder.path().join("layout"), "cdn", "x");
    server.set_door(Door::Basic(BASIC.into()));
    let layer = &built.layer_digests[0];
    let target = format!(
        "Location: http://{}/v2/cdn/blobs/{layer}\r\n",
        other.address
    );
    server.mishap(layer, Mishap::Status(307, target));
    let path = format!("Location: /v2/a/b/blobs/{}\r\n", built.layer_digests[1]);
    server.mishap(&built.layer_digests[1], Mishap::Status(302, path));
    let mut request = request(&reference);
    request.credentials = Some(basic());
    assert_eq!(world.puller.pull_here(&request).unwrap().image_id, built.id);
    let seen = other.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains_key("authorization"), "{seen:?}");
}

#[test]
fn redirects_to_strangers_without_encryption_and_circles_are_refused() {
    let name = "oci::registry::redirects_to_strangers_without_encryption_and_circles_are_refused";
    if !lonely::is_inside(name) {
        return;
    }
    let (world, server, _, reference) = world("vfs");
    let target = "Location: http://192.0.2.1/x\r\n".to_owned();
    server.mishap("manifests", Mishap::Status(307, target));
    let text = world.assert_fails(&reference, Trouble::Unsupported);
    assert!(text.contains("192.0.2.1"), "{text}");
    for _ in 0..100 {
        let target = "Location: /v2/a/b/manifests/x\r\n".to_owned();
        server.mishap("manifests", Mishap::Status(307, target));
    }
    world.assert_fails(&reference, Trouble::Unavailable);
}

#[test]
fn pulls_of_one_image_join_and_outlive_their_callers() {
    let (world, server, built, reference) = world("overlay");
    server.mishap(&built.layer_digests[0], Mishap::Silence);
    let world = Arc::new(world);
    let pulled = world.runtime.block_on(async {
        let first = world.puller.pull(request(&reference));
        // Started, and then its caller goes away.
        drop(tokio::time::timeout(std::time::Duration::from_millis(50), first).await);
        let calls = (0..8).map(|_| {
            let (world, reference) = (Arc::clone(&world), reference.clone());
            tokio::spawn(async move { world.puller.pull(request(&reference)).await })
        });
        let mut pulled = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            pulled.push(call.await.unwrap().unwrap());
        }
        pulled
    });
    assert!(pulled.iter().all(|pulled| pulled.image_id == built.id));
    let manifests = server
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("manifests"))
        .count();
    assert_eq!(manifests, 1);
    assert!(!world.puller.is_under_way(&reference.parse().unwrap()));
}

/// A byte now and then is no silence, but would hold a place among the pulls for ever.
#[test]
fn a_registry_that_drips_is_given_up_and_lets_other_pulls_go_on() {
    let (_, server, built, reference) = world("overlay");
    let options = PullerOptions {
        pulls: 1,
        ..PullerOptions::default()
    };
    let world = World::with("overlay", options);
    server.mishap(&built.layer_digests[0], Mishap::Drip(100_000));
    let (slow, other) = world.runtime.block_on(async {
        let slow = tokio::spawn({
            let (puller, request) = (world.puller.clone(), request(&reference));
            async move { puller.pull(request).await }
        });
        let source = reference.parse().unwrap();
        until(|| world.puller.is_under_way(&source)).await;
        let other = tokio::spawn({
            let mut named = request(&reference);
            named.names = vec!["localhost/other:one".into()];
            let puller = world.puller.clone();
            async move { puller.pull(named).await }
        });
        let waiting = world.puller.waiting();
        until(|| waiting.load(Ordering::Relaxed) == 1).await;
        let slow = slow.await.unwrap();
        let other = other.await.unwrap();
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        (slow, other)
    });
    let error = slow.unwrap_err();
    let text = chain(&*error);
    assert_eq!(error.trouble(), Trouble::Unavailable, "{text}");
    assert!(text.contains("too slow") && text.contains("1000"), "{text}");
    assert_eq!(other.unwrap().image_id, built.id);

    // The same for what says what the image is, which is asked for again a few times.
    let world = World::new("overlay");
    for _ in 0..5 {
        server.mishap("manifests", Mishap::Drip(1));
    }
    let text = world.assert_fails(&reference, Trouble::Unavailable);
    assert!(text.contains("too slow"), "{text}");
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it does not come");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[test]
fn other_credentials_do_not_join() {
    let (world, server, _, reference) = world("vfs");
    server.set_door(Door::Basic(BASIC.into()));
    let mut with = request(&reference);
    with.credentials = Some(basic());
    let (with, without) = world.runtime.block_on(async {
        let without = request(&reference);
        tokio::join!(world.puller.pull(with), world.puller.pull(without))
    });
    with.unwrap();
    assert_eq!(without.unwrap_err().trouble(), Trouble::Unauthenticated);
}
