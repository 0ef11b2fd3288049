//! Containers whose contents need not outlive a loss of power.

use strata::store::driver::MountOptions;
use strata::store::{Config, NewContainer, Store};
use strata::sys::{mount, mount_table};

use crate::support::scratch::Scratch;
use crate::support::tool;

#[test]
fn a_volatile_container_is_mounted_so_unless_that_is_switched_off() {
    tool::require_root();
    mount::enter_private_namespace().unwrap();
    let scratch = Scratch::new("volatile");
    let open = |ignores_volatile| {
        let config = Config {
            driver: Some("overlay".into()),
            ignores_volatile,
            ..Config::in_roots(scratch.path().join("graph"), scratch.path().join("run"))
        };
        Store::open(config).unwrap()
    };
    let new = NewContainer {
        names: vec!["c".into()],
        is_volatile: true,
        in_volatile_files: true,
        ..NewContainer::default()
    };
    open(false).create_container(new).unwrap();
    for ignores_volatile in [false, true] {
        let store = open(ignores_volatile);
        let place = store.mount("c", &MountOptions::default()).unwrap();
        let table = mount_table::read().unwrap();
        let line = table.iter().rev().find(|line| line.mount_point == place);
        let options = String::from_utf8_lossy(&line.unwrap().super_options).into_owned();
        let is_volatile = options.ends_with("volatile");
        assert_eq!(is_volatile, !ignores_volatile, "{options}");
        assert!(!store.unmount("c", false).unwrap());
    }
}
