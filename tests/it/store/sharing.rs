//! Several writers on one store: nothing is lost, and what one writes the other sees.

use strata::store::NewContainer;

use super::{a_store, open};

#[test]
fn a_change_by_another_handle_is_seen_at_the_next_look() {
    let store = a_store();
    let other = store.reopened();
    assert!(other.containers().unwrap().is_empty());
    store.with_container("c", "");
    assert_eq!(other.containers().unwrap().len(), 1);
    other.delete_container("c").unwrap();
    assert!(store.containers().unwrap().is_empty());
}

#[test]
fn an_edit_by_hand_is_seen() {
    let store = a_store();
    store.with_container("c", "");
    let path = store
        .folder
        .path()
        .join("graph/vfs-containers/containers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""id":"c""#, r#""id":"d" "#)).unwrap();
    assert!(store.containers().unwrap().find("d").is_some());
}

#[test]
fn threads_and_handles_lose_no_update() {
    let store = a_store();
    store.with_image("image-1", "a");
    std::thread::scope(|scope| {
        for handle in 0..4 {
            let shared = store.store.clone();
            let own = open(store.folder.path());
            for thread in 0..4 {
                let store = if thread % 2 == 0 {
                    shared.clone()
                } else {
                    own.clone()
                };
                scope.spawn(move || {
                    for number in 0..10 {
                        let id = format!("c-{handle}-{thread}-{number}");
                        let new = NewContainer {
                            id: Some(id.clone()),
                            image: Some("a".into()),
                            ..NewContainer::default()
                        };
                        store.create_container(new).unwrap();
                        if number % 2 == 0 {
                            store.delete_container(&id).unwrap();
                        }
                    }
                });
            }
        }
    });
    let other = store.reopened();
    assert_eq!(other.containers().unwrap().len(), 80);
    assert_eq!(other.layers().unwrap().len(), 81);
    let contents = store.folder.path().join("graph/vfs/dir");
    assert_eq!(std::fs::read_dir(contents).unwrap().count(), 81);
    store.assert_staging_is_empty();
}

#[test]
fn one_plugin_at_a_time_serves_a_store() {
    let store = a_store();
    let reserved = store.reserve_for_plugin().unwrap();
    assert!(reserved.is_some());
    assert!(store.reopened().reserve_for_plugin().unwrap().is_none());
    drop(reserved);
    assert!(store.reopened().reserve_for_plugin().unwrap().is_some());
}
