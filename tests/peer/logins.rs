//! Logins that other tools made, at Debian's registry with basic login.

use std::path::Path;

use crate::shared::binary;
use crate::support::image::{self, Built};
use crate::support::plugin::Settings;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

/// Of `htpasswd -Bbn pod secret-word`.
const LINE: &str = "pod:$2y$05$ms65poTPtxUZoXZ.g5FwZe0niJnMTUCPpIJnbg3bdmYOiocxyBYW.";
const PASSWORD: &str = "secret-word";

/// A registry that lets in one user.
struct Guarded {
    registry: Registry,
    built: Built,
    scratch: Scratch,
}

impl Guarded {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("logins");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let folder = scratch.dir("registry");
        let registry = Registry::start(&folder);
        registry.push(&layout, "test/busybox", "one");
        registry.stop();
        Self {
            registry: Registry::start_with_login(&folder, LINE),
            built,
            scratch,
        }
    }

    /// Pulls into a store of its own, as a user with these folders.
    fn pull(&self, store: &str, arguments: &[&str], runtime: &Path, home: &Path) -> Ran {
        let settings = Settings::below(&self.scratch.dir(store), &binary());
        Tool::at(&settings.binary)
            .args(settings.store_arguments())
            .args(["pull", "--quiet"])
            .args(arguments)
            .arg(self.registry.reference("test/busybox", "one"))
            .env("XDG_RUNTIME_DIR", runtime)
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join("none"))
            .env("REGISTRY_AUTH_FILE", "")
            .env("DOCKER_CONFIG", "")
            .output()
    }
}

#[test]
fn what_podman_buildah_and_skopeo_logged_in_to_is_pulled_from() {
    let guarded = Guarded::new();
    let nobody = guarded.scratch.dir("nobody");
    let host = guarded.registry.address().to_string();
    for name in ["podman", "buildah", "skopeo"] {
        let runtime = guarded.scratch.dir(&format!("runtime-{name}"));
        let mut login = Tool::new(name);
        if name != "skopeo" {
            // Not the machine's own store.
            login = login
                .args(["--root", &guarded.scratch.text("engine")])
                .args(["--runroot", &guarded.scratch.text("engine-run")])
                .args(["--storage-driver", "vfs"]);
        }
        login
            .args(["login", "--tls-verify=false", "--username", "pod"])
            .args(["--password-stdin", &host])
            .input(PASSWORD)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("REGISTRY_AUTH_FILE", "")
            .ok();
        assert!(runtime.join("containers/auth.json").is_file(), "{name}");
        let pulled = guarded.pull(name, &[], &runtime, &nobody);
        assert_eq!(pulled.code, 0, "{name}: {pulled}");
        assert_eq!(pulled.last_line(), guarded.built.id);
    }
}

#[test]
fn dockers_own_file_is_read_and_a_wrong_password_is_told() {
    let guarded = Guarded::new();
    let nobody = guarded.scratch.dir("nobody");
    let host = guarded.registry.address().to_string();
    let write = |name: &str, password: &str| {
        let file = guarded.scratch.dir(name).join(".docker/config.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let login = serde_json::json!({ "username": "pod", "password": password });
        let text = serde_json::json!({ "auths": { &host: login }, "HttpHeaders": {} });
        std::fs::write(&file, text.to_string()).unwrap();
        file
    };
    let right = write("right", PASSWORD);
    let wrong = write("wrong", "another-word");
    let file = |path: &Path| path.to_str().unwrap().to_owned();

    let home = guarded.scratch.path().join("right");
    let pulled = guarded.pull("home", &[], &nobody, &home);
    assert_eq!(pulled.code, 0, "{pulled}");
    // What is named goes before what is found.
    let home = guarded.scratch.path().join("wrong");
    let pulled = guarded.pull("named", &["--authfile", &file(&right)], &nobody, &home);
    assert_eq!(pulled.code, 0, "{pulled}");
    assert_eq!(pulled.last_line(), guarded.built.id);

    for (store, arguments) in [
        ("refused-home", vec![]),
        ("refused-named", vec!["--authfile".to_owned(), file(&wrong)]),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let refused = guarded.pull(store, &arguments, &nobody, &home);
        assert_eq!(refused.code, 1, "{refused}");
        let said = &refused.stderr;
        assert!(said.contains("\"pod\"") && said.contains(&host), "{said}");
        assert!(said.contains("hint: log in with `podman login"), "{said}");
        assert!(!said.contains("another-word"), "{said}");
    }
    let refused = guarded.pull("refused-nobody", &[], &nobody, &nobody);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.stderr.contains("no login for it is known"),
        "{refused}"
    );
}
