//! Layers whose contents are in an additional layer store, as peers record them.

use std::fs;
use std::os::unix::fs::symlink;

use strata::store::driver::{Base, DriverError, DriverKind};

use crate::fixture::{Home, read};

#[test]
fn a_layer_of_an_additional_layer_store_is_read_mounted_and_let_go() {
    let store = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = store.path().join("sha256:1234");
    fs::create_dir_all(place.join("diff/d")).unwrap();
    fs::write(place.join("diff/d/far"), "away").unwrap();
    let option = format!(
        "overlay.additionallayerstore={}:ref",
        store.path().display()
    );
    let home = Home::with(DriverKind::Overlay, "graph", &[&option], &[]);
    home.layer("base", None, &[("base", "x")]);
    home.layer("lazy", Some("base"), &[]);
    let lazy = home.layer_path("lazy");
    fs::remove_dir(lazy.join("diff")).unwrap();
    symlink(place.join("diff"), lazy.join("diff")).unwrap();
    fs::write(lazy.join("additionallayer"), place.to_str().unwrap()).unwrap();

    home.layer("top", Some("lazy"), &[("near", "here")]);
    let root = home.mount("top");
    assert_eq!(read(root.join("d/far")), "away");
    assert_eq!(read(root.join("base")), "x");
    fs::write(root.join("d/far"), "changed").unwrap();
    home.unmount("top");
    // Itself it is never written.
    let root = home.mount("lazy");
    assert_eq!(read(root.join("d/far")), "away");
    assert!(fs::write(root.join("d/far"), "x").is_err());
    home.unmount("lazy");
    let mut tar = Vec::new();
    let side = "lazy".into();
    home.driver.diff(&side, &Base::Below, &mut tar).unwrap();
    assert!(String::from_utf8_lossy(&tar).contains("d/far"));

    assert!(home.discard("top"));
    assert!(home.discard("lazy"));
    assert_eq!(read(place.join("diff/d/far")), "away");
}

#[test]
fn a_diff_that_leads_elsewhere_is_followed_to_no_other_place() {
    let home = Home::overlay();
    home.layer("base", None, &[]);
    let secret = home.aside("secret");
    fs::create_dir(&secret).unwrap();
    fs::remove_dir(home.layer_path("base").join("diff")).unwrap();
    symlink(&secret, home.layer_path("base").join("diff")).unwrap();
    let error = home.driver.content("base").unwrap_err();
    assert!(matches!(error, DriverError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains("additionallayerstore"),
        "{error}"
    );
    assert!(home.try_prepare(Some("base"), |_| {}).is_err());
}
