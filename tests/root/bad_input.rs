//! What bad input gets, over CSI and the command line: the right code, a clear text, nothing half done.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use tonic::Code;

use crate::support::image::{self, Layer};
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::registry::Registry;
use crate::support::scratch::{Scratch, mounts_below};
use crate::support::standing::Standing;
use crate::support::tool::{self, Ran, Tool};

pub struct World {
    pub scratch: Scratch,
    pub settings: Settings,
}

impl World {
    pub fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("bad");
        let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
        Self {
            settings: Settings::below(scratch.path(), &binary),
            scratch,
        }
    }

    pub fn wish(&self, name: &str, image: Option<&str>) -> Wish {
        Wish::inline(
            &inline_handle(name),
            &self.settings.target(name, "data"),
            image,
        )
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(arguments)
            .output()
    }

    /// The plugin must end by itself, with 1; what it said.
    fn refuses_to_start(&self, tool: Tool) -> String {
        let ran = tool
            .args(["node", "--node-name", "one", "--kubelet-dir"])
            .arg(&self.settings.kubelet)
            .env(
                "CSI_ENDPOINT",
                format!("unix://{}", self.settings.socket.display()),
            )
            .output();
        assert_eq!(ran.code, 1, "{ran}");
        format!("{}{}", ran.text(), ran.stderr)
    }
}

/// The publish fails with the code and leaves neither mount nor target nor anything in the store.
#[track_caller]
pub fn refused(world: &World, kubelet: &Kubelet, wish: &Wish, code: Code) -> String {
    let before = Standing::of(&world.settings);
    let status = kubelet.publish(wish).unwrap_err();
    assert_eq!(
        status.code(),
        code,
        "{status:?}\n{}",
        world.settings.log_text()
    );
    assert!(status.details().is_empty());
    assert!(!mounts_below(&world.settings.kubelet).contains(&wish.target));
    before.assert_kept(&world.settings);
    status.message().to_owned()
}

#[test]
fn a_broken_or_foreign_record_file_is_refused_and_left_alone() {
    let world = World::new();
    let plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    let kept = world.wish("kept", None);
    kubelet.publish(&kept).unwrap();
    fs::write(kept.target.join("file"), "kept").unwrap();
    let persistent = kubelet.create("claim", &[]).unwrap().volume_id;
    let registry = Registry::start(&world.scratch.dir("registry"));
    let layout = world.scratch.path().join("layout");
    image::write_layout(&layout, "x", &[Layer::new().file("a", "a")]);
    registry.push(&layout, "test/image", "x");
    let image = registry.reference("test/image", "x");
    let of_image = |policy: &str| {
        world
            .wish("of-image", Some(&image))
            .with("pullPolicy", policy)
    };
    let present = world.wish("present", Some(&image));
    kubelet.publish(&present).unwrap();
    kubelet.unpublish(&present.volume, &present.target).unwrap();
    let path = world.settings.graph.join("overlay-layers/layers.json");
    let good = fs::read_to_string(&path).unwrap();
    let truncated = &good[..good.len() - 20];
    for bad in [
        truncated,
        "{\"not\":\"a list\"}",
        "[{\"id\":\"../x\"}]",
        "\0\0\0",
    ] {
        fs::write(&path, bad).unwrap();
        let wish = world.wish("new", None);
        let text = refused(&world, &kubelet, &wish, Code::DataLoss);
        assert!(text.contains("layers.json"), "{text}");
        assert!(!wish.target.exists());
        for policy in ["IfNotPresent", "Always"] {
            let text = refused(&world, &kubelet, &of_image(policy), Code::DataLoss);
            assert!(
                text.contains("layers.json") && text.contains("administrator"),
                "{text}"
            );
        }
        let status = kubelet.create("another", &[]).unwrap_err();
        assert_eq!(status.code(), Code::DataLoss, "{status:?}");
        let status = kubelet.delete(&persistent).unwrap_err();
        assert_eq!(status.code(), Code::DataLoss, "{status:?}");
        for arguments in [
            &["layers"][..],
            &["create-container", ""],
            &["create-layer"],
            &["wipe"],
            &["pull", "oci:/nonexistent"],
        ] {
            let ran = world.run(arguments);
            assert!(ran.code != 0, "{bad}: {ran}");
            assert!(!ran.stderr.is_empty(), "{ran}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    fs::write(&path, &good).unwrap();
    a_broken_file_of_images_is_refused(&world, &kubelet, &of_image);
    fs::write(&path, "\0\0\0").unwrap();
    assert_eq!(
        fs::read_to_string(kept.target.join("file")).unwrap(),
        "kept",
        "what is published goes on"
    );
    // A plugin that starts on it serves what is published, and removes nothing.
    plugin.kill();
    let layers = || {
        let home = fs::read_dir(world.settings.graph.join("overlay"));
        home.unwrap().count()
    };
    let before = layers();
    let plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    refused(&world, &kubelet, &world.wish("new", None), Code::DataLoss);
    assert_eq!(fs::read(&path).unwrap(), b"\0\0\0");
    plugin.kill();
    // Without the containers it can't know what is published: it does not start.
    let containers = world
        .settings
        .graph
        .join("overlay-containers/containers.json");
    let records = fs::read(&containers).unwrap();
    fs::write(&containers, "[{\"id\"").unwrap();
    let starting = Tool::at(&world.settings.binary).args(world.settings.store_arguments());
    let text = world.refuses_to_start(starting);
    assert!(text.contains("containers.json"), "{text}");
    assert_eq!(fs::read(&containers).unwrap(), b"[{\"id\"");
    assert_eq!(layers(), before);
    fs::write(&containers, records).unwrap();
    // Put right by hand, all is as it was.
    fs::write(&path, good).unwrap();
    let _plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    kubelet.publish(&kept).unwrap();
    assert_eq!(
        fs::read_to_string(kept.target.join("file")).unwrap(),
        "kept"
    );
    kubelet.unpublish(&kept.volume, &kept.target).unwrap();
    kubelet.delete(&persistent).unwrap();
}

/// Volumes of images are refused, those of nothing need none.
fn a_broken_file_of_images_is_refused(
    world: &World,
    kubelet: &Kubelet,
    of_image: &dyn Fn(&str) -> Wish,
) {
    let path = world.settings.graph.join("overlay-images/images.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in [&good[..good.len() - 20], "{\"not\":\"a list\"}", "\0\0\0"] {
        fs::write(&path, bad).unwrap();
        for policy in ["IfNotPresent", "Always", "Never"] {
            let text = refused(world, kubelet, &of_image(policy), Code::DataLoss);
            assert!(
                text.contains("images.json") && text.contains("administrator"),
                "{text}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    fs::write(&path, good).unwrap();
    let wish = of_image("IfNotPresent");
    kubelet.publish(&wish).unwrap();
    kubelet.unpublish(&wish.volume, &wish.target).unwrap();
}

#[test]
fn a_storage_configuration_with_a_typo_keeps_the_plugin_from_starting() {
    let world = World::new();
    let file = world.scratch.path().join("storage.conf");
    for (text, named) in [
        ("[storage]\ndriver = \"overlay\n", "storage.conf"),
        ("[storage]\ndriver = 1\n", "storage.driver"),
        ("[storage]\ndriver = \"ovrelay\"\n", "ovrelay"),
        ("[storage]\nrunrot = \"/elsewhere\"\n", "runrot"),
        ("[storrage]\ndriver = \"overlay\"\n[storage]\n", "storrage"),
    ] {
        let roots = format!(
            "{text}graphroot = \"{}\"\nrunroot = \"{}\"\n",
            world.settings.graph.display(),
            world.settings.run.display()
        );
        fs::write(&file, roots).unwrap();
        let starting = Tool::at(&world.settings.binary).env("CONTAINERS_STORAGE_CONF", &file);
        let said = world.refuses_to_start(starting);
        assert!(said.contains(named), "{said}");
        assert!(!world.settings.socket.exists());
    }
}

#[test]
fn targets_that_are_missing_relative_or_used_are_told_apart() {
    let world = World::new();
    let _plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    let at = |name: &str, target: &str| Wish {
        target: target.into(),
        ..world.wish(name, None)
    };
    for bad in ["", "relative/path", "/etc/strata-test"] {
        refused(&world, &kubelet, &at("a", bad), Code::InvalidArgument);
    }
    let mut orphan = world.wish("a", None);
    orphan.target.push("below/nothing");
    let text = refused(&world, &kubelet, &orphan, Code::InvalidArgument);
    assert!(text.contains("parent"), "{text}");

    let file = world.wish("file", None);
    fs::write(&file.target, "x").unwrap();
    refused(&world, &kubelet, &file, Code::FailedPrecondition);
    assert_eq!(fs::read(&file.target).unwrap(), b"x");
    let full = world.wish("full", None);
    fs::create_dir_all(full.target.join("things")).unwrap();
    refused(&world, &kubelet, &full, Code::FailedPrecondition);
    assert!(full.target.join("things").is_dir());

    let first = world.wish("first", None);
    kubelet.publish(&first).unwrap();
    let second = Wish {
        target: first.target.clone(),
        ..world.wish("second", None)
    };
    let status = kubelet.publish(&second).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    kubelet.unpublish(&second.volume, &second.target).unwrap();
    fs::write(first.target.join("file"), "still here").unwrap();
    let other = first.clone().read_only();
    let status = kubelet.publish(&other).unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    kubelet.unpublish(&first.volume, &first.target).unwrap();
}

#[test]
fn images_for_another_platform_and_bombs_are_refused() {
    let mut world = World::new();
    world.settings.arguments = ["--max-image-size", "1M", "--max-layer-files", "50"]
        .map(str::to_owned)
        .to_vec();
    let registry = Registry::start(&world.scratch.dir("registry"));
    let many = (0..60).fold(Layer::new(), |layer, number| {
        layer.file(&format!("file{number}"), "")
    });
    let huge = Layer::new().file("zeros", vec![0; 2 << 20]);
    for (name, layer) in [
        ("fine", Layer::new().file("a", "a")),
        ("huge", huge),
        ("many", many),
    ] {
        let layout = world.scratch.path().join(name);
        image::write_layout(&layout, "x", &[layer]);
        registry.push(&layout, &format!("test/{name}"), "x");
    }
    let _plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    let image = |name: &str| registry.reference(&format!("test/{name}"), "x");
    let foreign = world
        .wish("foreign", Some(&image("fine")))
        .with("platform", "linux/arm64");
    let text = refused(&world, &kubelet, &foreign, Code::NotFound);
    assert!(text.contains("linux/arm64"), "{text}");
    let mistyped = world
        .wish("foreign", Some(&image("fine")))
        .with("platform", "arm64");
    refused(&world, &kubelet, &mistyped, Code::InvalidArgument);
    for bomb in ["huge", "many"] {
        let wish = world.wish(bomb, Some(&image(bomb)));
        refused(&world, &kubelet, &wish, Code::ResourceExhausted);
        assert!(!wish.target.exists());
    }
    assert_eq!(world.run(&["images", "--json"]).text(), "null");
    assert_eq!(world.run(&["layers", "--json"]).text(), "null");
    let limited = world.run(&["pull", "--max-image-size", "1K", &image("huge")]);
    assert!(
        limited.code == 1 && limited.stderr.contains("1024"),
        "{limited}"
    );
    let unlimited = world.run(&["pull", "--quiet", &image("huge")]);
    assert_eq!(unlimited.code, 0, "{unlimited}");
    let unread = world.run(&["pull", "--max-image-size", "much", &image("huge")]);
    assert!(
        unread.stderr.contains("--max-image-size: \"much\""),
        "{unread}"
    );
}

#[test]
fn what_a_registry_answers_becomes_the_code() {
    let world = World::new();
    let _plugin = Plugin::start(&world.settings);
    let kubelet = Kubelet::connect(&world.settings.socket);
    for (status, code) in [
        ("401 Unauthorized", Code::Unauthenticated),
        ("403 Forbidden", Code::PermissionDenied),
        ("404 Not Found", Code::NotFound),
        ("429 Too Many Requests", Code::Unavailable),
        ("500 Internal Server Error", Code::Unavailable),
        // The connection is cut instead of an answer.
        ("", Code::Unavailable),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let login = if status.starts_with("401") {
                    "WWW-Authenticate: Basic realm=\"here\"\r\n"
                } else {
                    ""
                };
                if stream.read(&mut request).is_ok() && !status.is_empty() {
                    let answer = format!(
                        "HTTP/1.1 {status}\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n"
                    );
                    drop(stream.write_all(answer.as_bytes()));
                }
            }
        });
        let wish = world.wish("any", Some(&format!("{address}/test/image:x")));
        refused(&world, &kubelet, &wish, code);
        assert!(!wish.target.exists());
    }
}
