//! Containers in user name spaces that the store finds IDs for.

use std::sync::Barrier;

use strata::store::{
    AutomaticMaps, Config, Error, NewContainer, NewImage, NewLayer, StageOptions, Store,
};
use strata::sys::mount::{self, Flags};

use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// A store on overlay, with an image that has the user 2000, on a machine whose containers have 100,000 IDs.
fn a_store(scratch: &Scratch) -> Store {
    tool::require_root();
    enter(scratch);
    let tree = scratch.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nweb:x:2000:2000::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )
    .unwrap();
    let tar = scratch.path().join("tar");
    Tool::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&tree)
        .arg("etc")
        .ok();
    let store = open(scratch);
    let layer = store
        .stage_layer(
            None,
            std::fs::File::open(tar).unwrap(),
            &StageOptions::default(),
        )
        .unwrap();
    let layer = store
        .create_layer(NewLayer::default(), Some(layer))
        .unwrap();
    let image = NewImage {
        names: vec!["image".into()],
        layer: Some(layer.id.clone()),
        ..NewImage::default()
    };
    store.create_image(image).unwrap();
    store
}

/// A name space of mounts for this thread, in which the administrator has given out IDs.
fn enter(scratch: &Scratch) {
    mount::enter_private_namespace().unwrap();
    for file in ["subuid", "subgid"] {
        let own = scratch.path().join(file);
        std::fs::write(&own, "other:1:5\ncontainers:100000:100000\n").unwrap();
        let place = std::path::Path::new("/etc").join(file);
        if !place.exists() {
            std::fs::write(&place, "").unwrap();
        }
        mount::bind(&own, &place, Flags::default()).unwrap();
    }
}

fn open(scratch: &Scratch) -> Store {
    Store::open(Config {
        driver: Some("overlay".into()),
        ..Config::in_roots(scratch.path().join("graph"), scratch.path().join("run"))
    })
    .unwrap()
}

fn automatic(size: u32) -> NewContainer {
    NewContainer {
        image: Some("image".into()),
        automatic: Some(AutomaticMaps {
            size,
            ..AutomaticMaps::default()
        }),
        ..NewContainer::default()
    }
}

#[test]
fn a_container_gets_ids_that_nobody_has_and_gives_them_back() {
    let scratch = Scratch::new("automatic");
    let store = a_store(&scratch);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let create = |size| store.create_container(automatic(size)).unwrap();
    let maps = |container: &strata::store::ContainerRecord| {
        assert_eq!(container.uid_map, container.gid_map);
        let [map] = container.uid_map[..] else {
            panic!("{:?}", container.uid_map)
        };
        (map.container_id, map.host_id, map.size)
    };
    let first = create(0);
    assert_eq!(maps(&first), (0, 100_000, 2001));
    let second = create(10);
    assert_eq!(maps(&second), (0, 102_001, 10));
    store.delete_container(&first.id).unwrap();
    assert_eq!(maps(&create(2000)), (0, 100_000, 2000));
    let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(before, after, "nothing was mounted");
    let error = store.create_container(automatic(99_000)).unwrap_err();
    assert!(matches!(error, Error::NoIds(_)), "{error}");
    assert_eq!(store.containers().unwrap().len(), 2);
}

#[test]
fn containers_that_are_made_at_once_share_no_id() {
    let scratch = Scratch::new("automatic");
    drop(a_store(&scratch));
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Each as a process of its own would; mounts are the starting thread's.
                let store = open(&scratch);
                start.wait();
                for _ in 0..5 {
                    store.create_container(automatic(100)).unwrap();
                }
            });
        }
    });
    let store = open(&scratch);
    let mut firsts: Vec<_> = store
        .containers()
        .unwrap()
        .iter()
        .map(|container| container.uid_map[0].host_id)
        .collect();
    firsts.sort_unstable();
    let expected: Vec<_> = (0..20).map(|number| 100_000 + number * 100).collect();
    assert_eq!(firsts, expected);
}
