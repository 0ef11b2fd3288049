//! Layers and mounts with other owners than those that were unpacked.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use strata::archive::changes::Kind;
use strata::archive::id_shift::{IdMaps, IdRange};
use strata::store::driver::{
    Base, DriverError, DriverKind, MountOptions, Owners, PrepareOptions, Role, Side,
};
use strata::sys::Dir;

use crate::fixture::{Home, mode, read};

const CAPABILITY: &[u8] = b"security.capability";

/// `cap_net_raw+ep` of any root; with `root`, of that one.
fn capability(root: Option<u32>) -> Vec<u8> {
    let revision: u32 = if root.is_some() { 3 } else { 2 };
    let mut value = ((revision << 24) | 1).to_le_bytes().to_vec();
    value.extend(0x2000_u32.to_le_bytes());
    value.extend([0; 12]);
    value.extend(root.into_iter().flat_map(u32::to_le_bytes));
    value
}

/// Users from `users` on, groups from `groups` on.
fn maps(users: u32, groups: u32) -> IdMaps {
    let range = |host| IdRange {
        container: 0,
        host,
        size: 1000,
    };
    IdMaps {
        uids: vec![range(users)],
        gids: vec![range(groups)],
    }
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

/// A layer with what a change of owner may lose, over one with a folder of its own.
fn template(home: &Home) {
    crate::fixture::enter();
    home.layer_with("base", None, |root| {
        fs::create_dir(root.join("d")).unwrap();
        fs::create_dir(root.join("d/deep")).unwrap();
        chown(root.join("d/deep"), Some(7), Some(8)).unwrap();
        fs::write(root.join("d/gone"), "").unwrap();
    });
    home.layer_with("template", Some("base"), |root| {
        fs::create_dir_all(root.join("d")).unwrap();
        chown(root.join("d"), Some(5), Some(6)).unwrap();
        fs::write(root.join("d/program"), "program").unwrap();
        chown(root.join("d/program"), Some(1), Some(2)).unwrap();
        fs::set_permissions(root.join("d/program"), fs::Permissions::from_mode(0o6755)).unwrap();
        fs::hard_link(root.join("d/program"), root.join("other-name")).unwrap();
        for (name, root_user) in [("capable", None), ("of-root-3", Some(3))] {
            fs::write(root.join(name), "").unwrap();
            let dir = Dir::open(root).unwrap();
            dir.set_attribute(name, CAPABILITY, &capability(root_user))
                .unwrap();
        }
        fs::write(root.join("strange"), "").unwrap();
        chown(root.join("strange"), Some(5000), Some(9)).unwrap();
        std::os::unix::fs::symlink("d/nowhere", root.join("link")).unwrap();
        crate::fixture::delete(&*home.driver, root, "d/gone");
    });
}

fn copy(home: &Home, id: &str, of: Side, to: &IdMaps, role: Role) {
    let name = format!("copy-{id}");
    home.staging.create_dir(&name, 0o700).unwrap();
    let at = home.staging.open_dir(&name).unwrap();
    let options = PrepareOptions {
        root: to.to_host(0, 0).unwrap(),
        ..PrepareOptions::default()
    };
    home.driver
        .prepare_mapped(&at, &of, to, role, &options)
        .unwrap();
    home.driver.adopt(&home.staging, &name, id).unwrap();
}

fn mapped(id: &str, maps: &IdMaps) -> Side {
    Side {
        id: id.to_owned(),
        owners: Owners {
            own: maps.clone(),
            ..Owners::default()
        },
    }
}

fn a_copy_has_the_other_owners_and_loses_nothing(home: &Home) {
    template(home);
    let to = maps(100_000, 200_000);
    copy(home, "copy", "template".into(), &to, Role::Contents);
    home.layer("child", Some("copy"), &[]);
    let root = home.mount("child");
    assert_eq!(owner(&root), (100_000, 200_000));
    assert_eq!(mode(&root), 0o555);
    assert_eq!(owner(root.join("d")), (100_005, 200_006));
    assert_eq!(owner(root.join("d/deep")), (100_007, 200_008));
    let program = fs::metadata(root.join("d/program")).unwrap();
    assert_eq!((program.uid(), program.gid()), (100_001, 200_002));
    assert_eq!(program.mode() & 0o7777, 0o6755);
    assert_eq!(program.nlink(), 2);
    assert_eq!(owner(root.join("link")), (100_000, 200_000));
    // What the maps leave out becomes nobody's.
    assert_eq!(owner(root.join("strange")), (65_534, 200_009));
    assert!(!root.join("d/gone").exists());
    let content = home.driver.content("copy").unwrap();
    let found = |name: &str| content.attribute(name, CAPABILITY).unwrap().unwrap();
    assert_eq!(found("capable"), capability(None));
    assert_eq!(found("of-root-3"), capability(Some(100_003)));
    home.unmount("child");

    // From one container's owners to another's, and back to the host's.
    let next = maps(300_000, 400_000);
    copy(home, "next", mapped("copy", &to), &next, Role::Contents);
    let content = home.driver.content("next").unwrap();
    assert_eq!(owner(content.path().join("d")), (300_005, 400_006));
    copy(
        home,
        "back",
        mapped("next", &next),
        &IdMaps::default(),
        Role::Contents,
    );
    let content = home.driver.content("back").unwrap();
    assert_eq!(owner(content.path().join("d")), (5, 6));
    assert_eq!(
        content.attribute("of-root-3", CAPABILITY).unwrap().unwrap(),
        capability(Some(3))
    );
}

fn a_layer_over_a_copy_tells_what_it_changes(home: &Home) {
    template(home);
    let to = maps(100_000, 200_000);
    copy(home, "own", "template".into(), &to, Role::Base);
    let content = home.driver.content("own").unwrap();
    let own = content.path();
    assert_eq!(owner(own), (100_000, 200_000));
    fs::write(own.join("added"), "x").unwrap();
    chown(own.join("added"), Some(100_004), Some(200_004)).unwrap();
    let root = home.mount("own");
    assert_eq!(read(root.join("added")), "x");
    assert_eq!(owner(root.join("d/deep")), (100_007, 200_008));
    home.unmount("own");

    let from = Base::Layer("template".into());
    let changes = home.driver.changes(&mapped("own", &to), &from).unwrap();
    let paths: Vec<_> = changes
        .iter()
        // Whose owner the maps lack has another one.
        .filter(|change| change.path != Path::new("/strange"))
        .map(|change| (change.kind, change.path.to_str().unwrap()))
        .collect();
    assert_eq!(paths, [(Kind::Add, "/added"), (Kind::Modify, "/of-root-3")]);
}

#[test]
fn vfs_copies_for_other_owners() {
    a_copy_has_the_other_owners_and_loses_nothing(&Home::new(DriverKind::Vfs));
    a_layer_over_a_copy_tells_what_it_changes(&Home::new(DriverKind::Vfs));
}

#[test]
fn overlay_copies_for_other_owners() {
    a_copy_has_the_other_owners_and_loses_nothing(&Home::overlay());
    a_layer_over_a_copy_tells_what_it_changes(&Home::overlay());
}

fn shown(maps: &IdMaps) -> MountOptions {
    MountOptions {
        owners: Owners {
            own: maps.clone(),
            below: IdMaps::default(),
            layers: 2,
            ..Owners::default()
        },
        ..MountOptions::default()
    }
}

#[test]
fn a_mount_shows_other_owners_and_changes_none() {
    let home = Home::overlay();
    template(&home);
    let to = maps(100_000, 200_000);
    assert!(home.driver.shows_other_owners(&to).unwrap());
    home.layer("container", Some("template"), &[]);
    let root = home.mount_with("container", &shown(&to)).unwrap();
    assert_eq!(owner(&root), (100_000, 200_000));
    assert_eq!(owner(root.join("d")), (100_005, 200_006));
    assert_eq!(owner(root.join("d/deep")), (100_007, 200_008));
    assert_eq!(mode(&root.join("d/program")), 0o6755);
    fs::write(root.join("new"), "").unwrap();
    chown(root.join("new"), Some(100_009), Some(200_009)).unwrap();
    fs::remove_file(root.join("capable")).unwrap();
    chown(root.join("d"), Some(100_001), Some(200_001)).unwrap();
    home.unmount("container");
    assert!(!home.layer_path("container").join("mapped").exists());

    let content = home.driver.content("template").unwrap();
    assert_eq!(owner(content.path().join("d")), (5, 6));
    let side = Side {
        id: "container".to_owned(),
        owners: shown(&to).owners,
    };
    let mut tar = Vec::new();
    home.driver.diff(&side, &Base::Below, &mut tar).unwrap();
    let mut reader = strata::archive::tar::Reader::new(&*tar);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let name = String::from_utf8(entry.name).unwrap();
        found.push((name, entry.uid, entry.gid));
    }
    let expected = [(".wh.capable", 0, 0), ("d/", 1, 1), ("new", 9, 9)];
    let expected = expected.map(|(name, uid, gid)| (name.to_owned(), uid, gid));
    assert_eq!(found, expected);

    // Compared with what is not next below, the whole tree is seen with the container's owners.
    let changes = home
        .driver
        .changes(&side, &Base::Layer("base".into()))
        .unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change.path == Path::new("/new"))
    );
    assert!(
        !changes
            .iter()
            .any(|change| change.path == Path::new("/d/deep")),
        "{changes:?}"
    );
}

#[test]
fn what_is_copied_already_is_not_mapped_again() {
    let home = Home::overlay();
    template(&home);
    let to = maps(100_000, 200_000);
    copy(&home, "copy", "template".into(), &to, Role::Contents);
    home.layer("container", Some("copy"), &[]);
    let mut options = shown(&to);
    options.owners.below = to;
    let root = home.mount_with("container", &options).unwrap();
    assert_eq!(owner(root.join("d")), (100_005, 200_006));
    home.unmount("container");

    // Somebody else's copy is mapped from there.
    options.owners.own = maps(300_000, 400_000);
    options.owners.layers = 1;
    let root = home.mount_with("container", &options).unwrap();
    assert_eq!(owner(root.join("d")), (300_005, 400_006));
    home.unmount("container");
}

#[test]
fn owners_that_mounts_may_not_show_are_no_others_by_mistake() {
    let mut home = Home::overlay();
    template(&home);
    home.layer("container", Some("template"), &[]);
    home.forbid_mapping();
    let to = maps(100_000, 200_000);
    assert!(!home.driver.shows_other_owners(&to).unwrap());
    let error = home
        .mount_with("container", &shown(&maps(100_000, 200_000)))
        .unwrap_err();
    assert!(matches!(error, DriverError::Unmappable(_)), "{error}");
}
