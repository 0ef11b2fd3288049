//! `pull` from registries: logins from auth files, platforms, and how it goes on.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Ran, Sandbox};
use crate::support::image::{self, Built, Format, Layer};
use crate::support::server::{Door, Mishap, Server};

/// A store, the folders of a user, and a registry that has `a/b:x`.
struct World {
    sandbox: Sandbox,
    server: Server,
    built: Built,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let layers = [
            Layer::new().file("lower", vec![b'x'; 100_000]),
            Layer::new().file("upper", "text"),
        ];
        let image = image::assemble(Format::Docker, "linux/amd64", &layers);
        server.add_image("a/b", &image);
        let manifest = &image.built.manifest;
        server.add_manifest("a/b", "x", Format::Docker.manifest(), manifest);
        Self {
            sandbox: Sandbox::new(),
            server,
            built: image.built,
        }
    }

    /// Writes an auth file with this user's login for the registry.
    fn login(&self, file: &str, user: &str) -> String {
        let text = format!(
            r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#,
            self.server.address,
            encoded(user)
        );
        let path = self.sandbox.path(file);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        self.sandbox.file(file, text)
    }

    /// The registry lets in nobody but this user, in one way or the other.
    fn admit(&self, user: &str, has_tokens: bool) {
        let header = format!("Basic {}", encoded(user));
        self.server.set_door(match has_tokens {
            true => Door::Token(Some(header)),
            false => Door::Basic(header),
        });
    }

    /// `pull` with these variables, whose values are paths below the sandbox.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command.env_clear();
        for (name, path) in variables {
            command.env(name, self.sandbox.path(path));
        }
        command
            .args(["--graph", &self.sandbox.path("graph")])
            .args(["--run", &self.sandbox.path("run")])
            .args(["--storage-driver", "vfs", "pull"])
            .args(["--platform", "linux/amd64"])
            .args(arguments)
            .arg(self.server.reference("a/b", "x"));
        command
    }

    fn pull(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        self.command(arguments, variables).output().unwrap().into()
    }

    #[track_caller]
    fn assert_pulled(&self, ran: &Ran) {
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(ran.out, format!("{}\n", self.built.id));
    }
}

fn password(user: &str) -> String {
    format!("password-of-{user}")
}

fn encoded(user: &str) -> String {
    STANDARD.encode(format!("{user}:{}", password(user)))
}

/// Every place has a login of its own, and the registry lets in only the one that is expected.
#[test]
fn logins_are_looked_for_where_podman_and_docker_keep_them() {
    let world = World::new();
    let runtime = ("XDG_RUNTIME_DIR", "runtime");
    let home = ("HOME", "home");
    let named = world.login("named.json", "named");
    let secret = world.login("secret.json", "secret");
    world.login("variable.json", "variable");
    world.login("runtime/containers/auth.json", "runtime");
    world.login("home/.config/containers/auth.json", "config");
    world.login("config/containers/auth.json", "moved-config");
    world.login("docker/config.json", "moved-docker");
    // Docker's own client alone.
    world.login("dockers/.docker/config.json", "docker");
    let variable = ("REGISTRY_AUTH_FILE", "variable.json");
    let nobody = ("XDG_RUNTIME_DIR", "nobody");
    let all = [variable, runtime, home];
    let authfile = ["--authfile", &*named];
    let secret = ["--secret-file", &*secret];
    let cases: [(&str, &[&str], &[(&str, &str)]); 8] = [
        ("named", &authfile, &all),
        ("secret", &secret, &all),
        ("variable", &[], &all),
        ("runtime", &[], &[runtime, home]),
        ("config", &[], &[nobody, home]),
        (
            "moved-config",
            &[],
            &[nobody, home, ("XDG_CONFIG_HOME", "config")],
        ),
        ("docker", &[], &[nobody, ("HOME", "dockers")]),
        (
            "moved-docker",
            &[],
            &[nobody, ("HOME", "nobody"), ("DOCKER_CONFIG", "docker")],
        ),
    ];
    for (user, arguments, variables) in cases {
        for has_tokens in [false, true] {
            world.admit(user, has_tokens);
            let ran = world.pull(arguments, variables);
            assert_eq!(ran.code, 0, "{user}, tokens {has_tokens}: {}", ran.err);
            world.assert_pulled(&ran);
        }
    }
}

#[test]
fn a_login_that_is_refused_says_what_to_do_and_no_secret() {
    let world = World::new();
    let file = world.login("named.json", "wrong");
    let host = world.server.address.to_string();
    let cases: [(&[&str], &[(&str, &str)]); 4] = [
        (&[], &[("XDG_RUNTIME_DIR", "nobody")]),
        (&["--authfile", &file], &[]),
        (&["--secret-file", &file], &[]),
        (&[], &[("REGISTRY_AUTH_FILE", "named.json")]),
    ];
    for has_tokens in [false, true] {
        world.admit("right", has_tokens);
        for (arguments, variables) in cases {
            let ran = world.pull(arguments, variables);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
            let said = &ran.err;
            let is_known = !arguments.is_empty() || variables[0].0 == "REGISTRY_AUTH_FILE";
            let who = if is_known {
                "\"wrong\""
            } else {
                "no login for it is known"
            };
            assert!(said.contains(&host) && said.contains(who), "{said}");
            let advice = format!("hint: log in with `podman login {host}`");
            assert!(
                said.contains(&advice) && said.contains("--authfile"),
                "{said}"
            );
            for secret in [password("wrong"), encoded("wrong")] {
                assert!(!said.contains(&secret), "{said}");
            }
        }
    }
    assert_eq!(world.sandbox.ok(&["layers", "-j"]), "null\n");
}

#[test]
fn an_auth_file_that_is_named_must_be_one() {
    let world = World::new();
    let missing = world.sandbox.path("missing.json");
    let broken = world.sandbox.file("broken.json", "{\"auths\": hunter2");
    let text = |arguments: &[&str], variables: &[(&str, &str)]| {
        let ran = world.pull(arguments, variables);
        assert_eq!(ran.code, 1, "{}", ran.err);
        ran.err
    };
    let said = text(&["--authfile", &missing], &[]);
    assert!(said.contains(&missing), "{said}");
    let said = text(&[], &[("REGISTRY_AUTH_FILE", "missing.json")]);
    assert!(said.contains(&missing), "{said}");
    let said = text(&["--authfile", &broken], &[]);
    assert!(
        said.contains(&broken) && said.contains("line 1") && !said.contains("hunter2"),
        "{said}"
    );
    assert_eq!(world.server.seen().len(), 0, "nothing is asked before");
}

#[test]
fn an_image_without_the_platform_names_those_that_it_has() {
    let world = World::new();
    let images = ["linux/arm/v7", "linux/s390x"]
        .map(|platform| (platform, image::assemble(Format::Docker, platform, &[])));
    let entries: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    let list = image::index(Format::Docker, &entries);
    let server = &world.server;
    server.add_manifest("a/b", "x", Format::Docker.index(), &list);
    let ran = world.pull(&[], &[]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(
        ran.err
            .contains("for linux/amd64 (there is linux/arm/v7, linux/s390x)")
            && ran.err.contains("hint: ")
            && ran.err.contains("--platform"),
        "{}",
        ran.err
    );
}

/// What a command writes on a terminal of 100 columns.
fn on_a_terminal(command: &Command) -> String {
    let quote = |text: &std::ffi::OsStr| {
        let text = text.to_str().unwrap().replace('\'', r"'\''");
        format!("'{text}'")
    };
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect();
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty cols 100; {}", words.join(" ")))
        .arg("/dev/null")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script is there: install bsdutils, by scripts/install test");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_terminal_sees_bars_and_everything_else_plain_lines() {
    let world = World::new();
    // The stream is cut and goes on, so that the first layer comes in pieces.
    let lower = &world.built.layer_digests[0];
    world.server.mishap(lower, Mishap::Cut(50));
    let short = |digest: &str| digest["sha256:".len()..][..12].to_owned();

    let seen = on_a_terminal(&world.command(&[], &[]));
    for digest in &world.built.layer_digests {
        let bar = seen
            .split(['\r', '\n'])
            .rfind(|line| line.contains(&short(digest)))
            .unwrap_or_else(|| panic!("no bar for {digest}: {seen:?}"));
        assert!(bar.contains('█') && bar.contains("done"), "{bar:?}");
    }
    // They are drawn over and over in one place.
    assert!(seen.contains("\u{1b}["), "{seen:?}");
    assert_eq!(seen.trim_end().lines().last().unwrap(), world.built.id);

    world.sandbox.ok(&["delete-image", &world.built.id]);
    let ran = world.pull(&[], &[]);
    world.assert_pulled(&ran);
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\r'));
    let mut lines: Vec<_> = ran.err.lines().collect();
    assert!(lines.remove(0).contains("2 layers to fetch"), "{}", ran.err);
    lines.sort_unstable();
    let mut expected: Vec<_> = world.built.layer_digests.iter().map(|d| short(d)).collect();
    expected.sort_unstable();
    assert_eq!(lines.len(), expected.len(), "{}", ran.err);
    for (line, digest) in lines.iter().zip(&expected) {
        assert!(line.starts_with(&format!("{digest}: done (")), "{line}");
    }
}
