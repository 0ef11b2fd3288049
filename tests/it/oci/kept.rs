//! A pull that failed on the way goes on from the layers that were complete.

use std::path::Path;
use std::time::Duration;

use strata::oci::pull::{PullerOptions, Trouble};
use strata::store::{Flags, NewLayer};

use super::{World, image, three_layers};
use crate::support::server::{Mishap, Server};

fn world(driver: &str, keep_bytes: u64) -> (World, Server, image::Built, String) {
    let options = PullerOptions {
        lanes: 1,
        keep_bytes,
        ..PullerOptions::default()
    };
    let world = World::with(driver, options);
    let layout = world.folder.path().join("layout");
    let built = image::write_layout(&layout, "x", &three_layers());
    let server = Server::start();
    server.add_layout(&layout, "a/b", "1");
    let reference = server.reference("a/b", "1");
    (world, server, built, reference)
}

fn unfinished(world: &World) -> Vec<String> {
    let layers = world.store.layers().unwrap();
    layers
        .iter()
        .filter(|layer| layer.flags.find::<String>(Flags::UNFINISHED).is_some())
        .map(|layer| layer.id.clone())
        .collect()
}

/// Lets the last layer fail for good.
fn fail_last(world: &World, server: &Server, built: &image::Built, reference: &str) {
    for _ in 0..20 {
        server.mishap(&built.layer_digests[2], Mishap::Cut(0));
    }
    let error = world.pull(reference).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Unavailable);
    server.forget_mishaps();
}

#[test]
fn the_retry_fetches_only_what_is_missing_and_nothing_shows_afterwards() {
    for (driver, keep_bytes) in [("overlay", u64::MAX), ("overlay", 1), ("vfs", 1)] {
        let (world, server, built, reference) = world(driver, keep_bytes);
        fail_last(&world, &server, &built, &reference);
        assert_eq!(unfinished(&world).len(), 2, "{driver}");
        assert_eq!(world.store.images().unwrap().len(), 0);
        let pulled = world.pull(&reference).unwrap();
        assert_eq!((pulled.layers_fetched, pulled.layers_reused), (1, 2));
        assert!(unfinished(&world).is_empty());
        assert_eq!(world.store.layers().unwrap().len(), 3);
    }
}

#[test]
fn layers_that_no_retry_wants_are_removed_and_those_that_somebody_uses_stay() {
    let (world, server, built, reference) = world("overlay", 1);
    fail_last(&world, &server, &built, &reference);
    let collect = |age| {
        world
            .puller
            .collect_unfinished(Duration::from_secs(age))
            .unwrap()
    };
    assert_eq!(collect(3600), 0, "a retry may come");
    assert_eq!(collect(0), 2);
    world.assert_empty();
    let staging = world.folder.path().join("graph/overlay");
    let left = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().len() == 64)
            .count()
    };
    assert_eq!(left(&staging), 0);

    fail_last(&world, &server, &built, &reference);
    let lower = unfinished(&world);
    let child = world
        .store
        .create_layer(
            NewLayer {
                parent: Some(lower[0].clone()),
                ..NewLayer::default()
            },
            None,
        )
        .unwrap();
    assert_eq!(collect(0), 1, "the one that nothing stands on");
    world.store.delete_layer(&child.id).unwrap();
    assert_eq!(collect(0), 1);
    world.assert_empty();
}

#[test]
fn layers_of_a_process_that_lives_are_its_own() {
    let (world, server, built, reference) = world("overlay", 1);
    fail_last(&world, &server, &built, &reference);
    // Another opened store is as good as another process.
    let other = strata::store::Store::open(world.store.config().clone()).unwrap();
    assert!(other.collect_unfinished(0, |_| false).unwrap().is_empty());
    let World { folder, .. } = world;
    let graph = folder.path().join("graph/strata/staging");
    // As a kill would, it leaves the lock file and not the lock.
    assert!(std::fs::read_dir(graph).unwrap().count() >= 1);
    drop((world.puller, world.runtime, world.store));
    assert_eq!(other.collect_unfinished(0, |_| false).unwrap().len(), 2);
}

#[test]
fn what_a_retry_can_not_mend_is_not_kept() {
    let (world, server, built, reference) = world("overlay", 1);
    server.mishap(&built.layer_digests[2], Mishap::Truncated(20));
    world.assert_fails(&reference, Trouble::Corrupt);
}

#[test]
fn kept_layers_count_towards_the_limit_of_their_image() {
    let options = PullerOptions {
        lanes: 1,
        keep_bytes: 1,
        limits: strata::oci::pull::Limits {
            unpacked_bytes: 610_000,
            ..strata::oci::pull::Limits::default()
        },
        ..PullerOptions::default()
    };
    let world = World::with("overlay", options);
    let layout = world.folder.path().join("layout");
    let mut layers = three_layers();
    layers.push(image::Layer::new().file("more", vec![b'x'; 20_000]));
    let built = image::write_layout(&layout, "x", &layers);
    let server = Server::start();
    server.add_layout(&layout, "a/b", "1");
    let reference = server.reference("a/b", "1");
    fail_last(&world, &server, &built, &reference);
    let error = world.pull(&reference).unwrap_err();
    assert_eq!(error.trouble(), Trouble::TooLarge, "{error:?}");
}
