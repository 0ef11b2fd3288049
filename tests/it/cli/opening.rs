//! Which store a command works on: flags, environment, configuration.

use std::process::Command;

use super::{Ran, Sandbox, strata};

/// Runs `strata` with these variables only.
fn with(variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.env_clear().envs(variables.iter().copied());
    command.args(arguments).output().unwrap().into()
}

fn configured(sandbox: &Sandbox, more: &str) -> String {
    let text = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n{more}",
        sandbox.path("configured"),
        sandbox.path("run")
    );
    sandbox.file("storage.conf", text)
}

#[test]
fn without_flags_the_configuration_counts() {
    let sandbox = Sandbox::new();
    let file = configured(&sandbox, "");
    let ran = with(&[("CONTAINERS_STORAGE_CONF", &file)], &["status"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let root = sandbox.path("configured");
    assert!(ran.err.starts_with(&format!(
        "Root: {root}\nRun Root: {}\n",
        sandbox.path("run")
    )));
    assert!(
        ran.err.contains("\nDriver Name: vfs\nDriver Options: []\n"),
        "{}",
        ran.err
    );
    assert!(std::path::Path::new(&root).join("vfs-layers").is_dir());
}

#[test]
fn with_one_flag_neither_files_nor_environment_count() {
    let sandbox = Sandbox::new();
    let variables = [
        ("CONTAINERS_STORAGE_CONF", "/nonexistent/storage.conf"),
        ("STORAGE_DRIVER", "nonsense"),
        ("STORAGE_OPTS", "nonsense"),
    ];
    let (graph, run) = (sandbox.path("graph"), sandbox.path("run"));
    let ran = with(
        &variables,
        &["-g", &graph, "layers", "-R", &run, "-s=vfs", "--json"],
    );
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "null\n", "")
    );
}

#[test]
fn a_driver_without_any_root_is_not_enough() {
    let ran = strata(&["-s", "vfs", "layers"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert_eq!(
        ran.out,
        "error initializing: no storage runroot or graphroot specified: missing necessary \
         StoreOptions\n"
    );
}

#[test]
fn the_environment_overrides_the_files() {
    let sandbox = Sandbox::new();
    let file = configured(
        &sandbox,
        "[storage.options.overlay]\nmountopt = \"nodev\"\n",
    );
    let config = |variables: &[(&str, &str)]| {
        let mut all = vec![("CONTAINERS_STORAGE_CONF", file.as_str())];
        all.extend(variables);
        let ran = with(&all, &["config"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()
    };
    let plain = config(&[]);
    assert_eq!(plain["driver"], "vfs");
    assert_eq!(plain["root"], sandbox.path("configured"));
    assert_eq!(
        plain["driver-options"],
        serde_json::json!(["overlay.mountopt=nodev"])
    );
    let changed = config(&[("STORAGE_DRIVER", "overlay"), ("STORAGE_OPTS", "a=b,c=d")]);
    assert_eq!(changed["driver"], "overlay");
    assert_eq!(changed["driver-options"], serde_json::json!(["a=b", "c=d"]));
}

#[test]
fn what_keeps_the_store_closed_is_told_on_stdout() {
    let sandbox = Sandbox::new();
    let broken = sandbox.file("broken.conf", "[storage\n");
    let missing = sandbox.path("missing.conf");
    for file in [&broken, &missing] {
        let ran = with(&[("CONTAINERS_STORAGE_CONF", file)], &["layers"]);
        assert_eq!((ran.code, ran.err.as_str()), (1, ""));
        assert!(ran.out.starts_with("error initializing: "), "{}", ran.out);
        assert!(ran.out.contains(file.as_str()), "{}", ran.out);
    }
    let (graph, run) = (sandbox.path("graph"), sandbox.path("run"));
    let ran = strata(&["-g", &graph, "-R", &run, "-s", "nosuch", "layers"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert!(ran.out.starts_with("error initializing: "), "{}", ran.out);
    assert!(ran.out.contains("driver not supported"), "{}", ran.out);
}

#[test]
fn relative_roots_work() {
    let sandbox = Sandbox::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.env_clear().current_dir(sandbox.folder.path());
    command.args([
        "-g",
        "graph",
        "-R",
        "run",
        "-s",
        "vfs",
        "create-layer",
        "-i",
        "a",
    ]);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!((ran.code, ran.out.as_str()), (0, "a\n"));
    assert_eq!(sandbox.ok(&["layers"]), "a\n");
}
