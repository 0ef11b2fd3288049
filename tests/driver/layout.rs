//! Overlay's files as peers expect them.

use std::fs;
use std::path::Path;

use strata::store::driver::DriverKind;
use strata::sys::mount;

use crate::fixture::{Home, mode, read};

#[test]
fn a_layer_has_the_files_of_both_generations() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    home.layer("middle", Some("base"), &[]);
    home.layer("top", Some("middle"), &[]);
    let link = |id: &str| read(home.layer_path(id).join("link"));
    for id in ["base", "middle", "top"] {
        let path = home.layer_path(id);
        let short = link(id);
        assert_eq!(short.len(), 26);
        assert!(
            short
                .bytes()
                .all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
        );
        let short_link = home.graph.join("overlay/l").join(&short);
        assert_eq!(
            fs::read_link(short_link).unwrap(),
            Path::new("..").join(id).join("diff")
        );
        assert_eq!(mode(&path), 0o700);
        for (name, expected) in [("diff", 0o555), ("work", 0o700), ("merged", 0o700)] {
            assert_eq!(mode(&path.join(name)), expected, "{name}");
        }
        assert_eq!(mode(&path.join("link")), 0o644);
        assert_eq!(path.join("empty").exists(), id == "base");
    }
    assert!(!home.layer_path("base").join("lower").exists());
    assert!(!home.layer_path("base").join("lower-layers").exists());
    let lower = format!("l/{}:l/{}", link("middle"), link("base"));
    assert_eq!(read(home.layer_path("top").join("lower")), lower);
    assert_eq!(
        read(home.layer_path("top").join("lower-layers")),
        "middle:base"
    );
    assert_eq!(read(home.layer_path("middle").join("lower-layers")), "base");
    assert_eq!(read(home.graph.join("overlay/.has-mount-program")), "false");
    assert_eq!(home.driver.lowers("top").unwrap(), ["middle", "base"]);
}

#[test]
fn what_peers_keep_in_the_home_is_no_layer() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    let folder = home.graph.join("overlay");
    for name in [
        "staging",
        "tempdirs",
        "compat123456",
        "metacopy-check9",
        "volatile-check1",
    ] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("file"), "").unwrap();
    assert_eq!(home.driver.list().unwrap(), ["base"]);
}

#[test]
fn a_layer_made_again_keeps_the_short_name_that_its_children_know() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    home.layer("child", Some("base"), &[]);
    let link = home.layer_path("base").join("link");
    let before = read(&link);
    home.layer("base", None, &[("new", "")]);
    assert_eq!(read(&link), before);
    let old = home.graph.join("overlay/l").join(before).join("new");
    assert!(old.exists());
}

#[test]
fn a_home_of_a_mount_program_is_mounted_by_the_one_that_is_found() {
    let mut home = Home::overlay();
    fs::write(home.graph.join("overlay/.has-mount-program"), "true").unwrap();
    home.reopen();
    home.layer("base", None, &[("file", "x")]);
    let root = home.mount("base");
    assert_eq!(read(root.join("file")), "x");
    assert!(!mount::is_overlay(&root).unwrap() && mount::is_mount_point(&root).unwrap());
    home.unmount("base");
}

/// A kill between the folder of links and this file once left a home that was not new any more and never got the file.
#[test]
fn a_home_is_new_until_it_has_all() {
    let home = Home::overlay();
    let folder = home.graph.join("overlay");
    let (flag, links) = (folder.join(".has-mount-program"), folder.join("l"));
    fs::remove_file(&flag).unwrap();
    fs::remove_dir(&links).unwrap();
    // It can't be made.
    fs::create_dir(&flag).unwrap();
    assert!(home.try_reopen().is_err());
    assert!(!links.exists());
    fs::remove_dir(&flag).unwrap();
    home.try_reopen().unwrap();
    assert_eq!(read(&flag), "false");
    assert!(links.exists());
}

#[test]
fn a_failed_adoption_leaves_nothing() {
    let home = Home::overlay();
    let name = home.try_prepare(None, |_| {}).unwrap();
    let prepared = home.graph.join("staging").join(&name);
    fs::write(prepared.join("link"), "").unwrap();
    assert!(home.driver.adopt(&home.staging, &name, "base").is_err());
    assert!(home.driver.list().unwrap().is_empty());

    // The short link can't be made: something else has its name.
    home.layer("other", None, &[]);
    let short = read(home.layer_path("other").join("link"));
    fs::write(prepared.join("link"), &short).unwrap();
    assert!(home.driver.adopt(&home.staging, &name, "base").is_err());
    assert_eq!(home.driver.list().unwrap(), ["other"]);
    let target = fs::read_link(home.graph.join("overlay/l").join(short)).unwrap();
    assert_eq!(target, Path::new("../other/diff"));
}

#[test]
fn a_limit_for_older_tools_holds_when_layers_are_made() {
    let home = Home::with(DriverKind::Overlay, "graph", &["overlay.max_lowers=2"], &[]);
    let top = home.chain("l", 3);
    home.mount(&top);
    home.unmount(&top);
    let error = home.try_prepare(Some(&top), |_| {}).unwrap_err();
    assert!(
        error.to_string().starts_with("max depth exceeded"),
        "{error}"
    );
}
