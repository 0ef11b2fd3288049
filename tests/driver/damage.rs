//! Overlay homes as crashes, other tools and administrators leave them.

use std::fs;
use std::path::Path;

use strata::store::driver::{Base, DriverError, MountOptions, Side};

use crate::fixture::{Home, read};

fn three(home: &Home) {
    home.layer("base", None, &[("file", "base")]);
    home.layer("middle", Some("base"), &[]);
    home.layer("top", Some("middle"), &[]);
}

/// Mounts as another process would, which knows nothing of how the layers were made.
fn assert_mounts(home: &mut Home) {
    home.reopen();
    let root = home.mount("top");
    assert_eq!(read(root.join("file")), "base");
    home.unmount("top");
}

#[test]
fn a_lost_short_link_is_made_again() {
    let mut home = Home::overlay();
    three(&home);
    let links = home.graph.join("overlay/l");
    for id in ["top", "base"] {
        let short = read(home.layer_path(id).join("link"));
        fs::remove_file(links.join(short)).unwrap();
    }
    // As layers of older tools: nothing but the short links says what is below.
    for id in ["top", "middle"] {
        fs::remove_file(home.layer_path(id).join("lower-layers")).unwrap();
    }
    assert_mounts(&mut home);
    for id in ["top", "base"] {
        let short = read(home.layer_path(id).join("link"));
        assert_eq!(
            fs::read_link(links.join(short)).unwrap(),
            Path::new("..").join(id).join("diff")
        );
    }
    assert_eq!(
        read(home.layer_path("top").join("lower-layers")),
        "middle:base"
    );
}

#[test]
fn a_damaged_list_of_ids_is_healed_from_the_short_links() {
    for damage in ["", "middle:base\n", ":", "middle:", "../../etc:base"] {
        let mut home = Home::overlay();
        three(&home);
        let list = home.layer_path("top").join("lower-layers");
        fs::write(&list, damage).unwrap();
        assert_mounts(&mut home);
        assert_eq!(read(&list), "middle:base", "{damage:?}");
        // A child made over it is whole.
        home.layer("child", Some("top"), &[]);
        assert_eq!(
            read(home.layer_path("child").join("lower-layers")),
            "top:middle:base"
        );
    }
}

#[test]
fn a_damaged_list_of_short_links_is_healed_from_the_ids() {
    for damage in [Some(""), Some("l/short\n"), Some("l:l/"), None] {
        let mut home = Home::overlay();
        three(&home);
        let list = home.layer_path("top").join("lower");
        let before = read(&list);
        match damage {
            Some(text) => fs::write(&list, text).unwrap(),
            None => fs::remove_file(&list).unwrap(),
        }
        assert_mounts(&mut home);
        assert_eq!(read(&list), before, "{damage:?}");
    }
}

#[test]
fn a_layer_that_lost_both_lists_is_damaged_and_not_a_base() {
    let home = Home::overlay();
    three(&home);
    for name in ["lower", "lower-layers"] {
        fs::write(home.layer_path("top").join(name), "").unwrap();
    }
    let error = home
        .mount_with("top", &MountOptions::default())
        .unwrap_err();
    assert!(matches!(error, DriverError::Damaged { .. }), "{error}");
}

#[test]
fn a_broken_link_is_never_followed() {
    for damage in [
        "",
        ".",
        "..",
        "../base",
        "short\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ\n",
    ] {
        let home = Home::overlay();
        three(&home);
        let links = home.graph.join("overlay/l");
        let count = fs::read_dir(&links).unwrap().count();
        fs::write(home.layer_path("middle").join("link"), damage).unwrap();
        // A child of it does not get the damage into its list.
        home.layer("child", Some("middle"), &[]);
        let lower = read(home.layer_path("child").join("lower"));
        assert!(
            lower
                .split(':')
                .all(|entry| entry.len() == 28 && entry.starts_with("l/")),
            "{lower}"
        );
        assert!(home.discard("child"));
        fs::write(home.layer_path("middle").join("link"), damage).unwrap();
        assert!(home.discard("middle"));
        assert!(links.is_dir());
        // A power cut leaves the file of an inline volume's layer empty: its short link once stayed for ever.
        assert_eq!(
            fs::read_dir(&links).unwrap().count(),
            count - 1,
            "{damage:?}"
        );
        assert_eq!(home.driver.list().unwrap().len(), 2);
    }
}

#[test]
fn a_link_that_names_another_layer_does_not_take_its_short_link_away() {
    let home = Home::overlay();
    three(&home);
    let short = read(home.layer_path("base").join("link"));
    fs::write(home.layer_path("top").join("link"), &short).unwrap();
    assert!(home.discard("top"));
    assert!(home.graph.join("overlay/l").join(short).exists());
}

#[test]
fn a_lower_layer_that_is_gone_is_named() {
    let home = Home::overlay();
    three(&home);
    assert!(home.discard("middle"));
    let error = home
        .mount_with("top", &MountOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains("middle"), "{error}");
}

#[test]
fn older_generations_of_a_layer_are_below_it() {
    let home = Home::overlay();
    three(&home);
    // What Go does when it gives a layer other owners.
    let middle = home.layer_path("middle");
    fs::rename(middle.join("diff"), middle.join("diff1")).unwrap();
    fs::write(middle.join("diff1/moved"), "x").unwrap();
    fs::create_dir(middle.join("diff")).unwrap();
    for id in ["middle", "top"] {
        let root = home.mount(id);
        assert_eq!(read(root.join("moved")), "x", "{id}");
        assert_eq!(read(root.join("file")), "base", "{id}");
        home.unmount(id);
    }
}

/// What a peer's `use_composefs` leaves in `diff` are files by the names of their contents: they were shown as the layer's.
#[test]
fn a_composefs_of_a_peer_is_refused_wherever_it_lies() {
    let mut home = Home::overlay();
    three(&home);
    fs::create_dir(home.layer_path("middle").join("composefs-data")).unwrap();
    home.reopen();
    for id in ["top", "middle"] {
        let error = home.mount_with(id, &MountOptions::default()).unwrap_err();
        assert!(matches!(&error, DriverError::Composefs(id) if id == "middle"));
        assert!(error.to_string().contains("use_composefs"), "{error}");
    }
    let (side, base) = (Side::from("middle"), Base::Below);
    for result in [
        home.driver.diff(&side, &base, &mut Vec::new()),
        home.driver.changes(&side, &base).map(drop),
        home.driver.diff_size(&side, &base).map(drop),
    ] {
        assert!(matches!(result, Err(DriverError::Composefs(_))));
    }
    let root = home.mount("base");
    assert_eq!(read(root.join("file")), "base");
    home.unmount("base");
}
