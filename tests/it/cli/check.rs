//! `check`: what it tells of damage, and what it removes.

use std::fs;

use serde_json::{Value, json};

use super::Sandbox;

/// Two images on each other and a container with a data item on the lower one.
struct Damaged {
    sandbox: Sandbox,
    lower: Value,
    upper: Value,
    container: String,
}

impl Damaged {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let change = |container: &str, script: &dyn Fn(&str)| {
            let root = sandbox.ok(&["mount", container]);
            script(root.trim());
            sandbox.ok(&["unmount", container]);
        };
        sandbox.ok(&["create-container", "--name", "a", ""]);
        change("a", &|root| {
            fs::create_dir(format!("{root}/d")).unwrap();
            fs::write(format!("{root}/d/file"), "one").unwrap();
            fs::write(format!("{root}/gone"), "two").unwrap();
        });
        let commit = |container: &str, name: &str| -> Value {
            serde_json::from_str(&sandbox.ok(&["commit", "-j", container, name])).unwrap()
        };
        let lower = commit("a", "lower");
        let container = sandbox.ok(&["create-container", "--name", "b", "localhost/lower:latest"]);
        change("b", &|root| {
            fs::write(format!("{root}/d/more"), "three").unwrap();
            fs::remove_file(format!("{root}/gone")).unwrap();
        });
        let upper = commit("b", "upper");
        let item = sandbox.file("item", "text");
        sandbox.ok(&["set-container-data", "-f", &item, "b", "item"]);
        sandbox.ok(&["delete-container", "a"]);
        assert_eq!(sandbox.ok(&["check"]), "");
        let container = container.lines().next().unwrap().to_owned();
        Self {
            sandbox,
            lower,
            upper,
            container,
        }
    }

    fn path(&self, name: &str) -> String {
        self.sandbox.path(&format!("graph/{name}"))
    }

    /// Runs `check` with these flags: exit code, and what it says on both streams.
    fn check(&self, flags: &[&str]) -> (i32, String, String) {
        let ran = self.sandbox.run(&[&["check"], flags].concat());
        (ran.code, ran.out, ran.err)
    }

    fn count(&self, kind: &str) -> usize {
        let text = self.sandbox.ok(&[kind, "-j"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        list.as_array().map_or(0, Vec::len)
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn a_changed_file_is_told_of_its_layer_and_image_and_repaired_by_removal() {
    let damaged = Damaged::new();
    let layer = text(&damaged.upper, "layer");
    let image = text(&damaged.upper, "id");
    fs::write(damaged.path(&format!("vfs/dir/{layer}/d/more")), "other").unwrap();
    let (code, out, err) = damaged.check(&[]);
    let problem = format!("layer {layer}: file integrity checksum failed for \"d/more\"");
    assert_eq!(
        out,
        format!("layer {layer}:\n {problem}\nimage {image}:\n {problem}\n")
    );
    let counts = "1 layer errors, 0 read-only layer errors, 1 image errors, 0 read-only image errors, \
                  0 container errors\n";
    assert_eq!((code, err.as_str()), (1, counts));
    let (code, out, _) = damaged.check(&["-j", "-q"]);
    let expected = json!({
        "Layers": { layer: [{}] }, "ROLayers": {},
        "Images": { image: [{}] }, "ROImages": {}, "Containers": {},
    });
    assert_eq!(
        (code, serde_json::from_str::<Value>(&out).unwrap()),
        (1, expected)
    );
    let (code, out, err) = damaged.check(&["--repair"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(&problem), "{out}");
    assert_eq!(damaged.sandbox.ok(&["check"]), "");
    assert_eq!((damaged.count("images"), damaged.count("layers")), (1, 2));
}

#[test]
fn files_are_compared_with_their_headers_unless_quick() {
    use std::os::unix::fs::PermissionsExt;
    let damaged = Damaged::new();
    let layer = text(&damaged.lower, "layer");
    let root = damaged.path(&format!("vfs/dir/{layer}"));
    fs::set_permissions(format!("{root}/gone"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(format!("{root}/new"), "new").unwrap();
    let (code, out, _) = damaged.check(&[]);
    assert_eq!(code, 1);
    for expected in [
        "/gone(mode:0644￫0600), layer content modified",
        "+/new, layer content modified",
    ] {
        // Of the layer, of both images on it, and of the container.
        assert_eq!(out.matches(expected).count(), 4, "{out}");
    }
    assert_eq!(damaged.check(&["--quick"]).0, 0);
}

#[test]
fn missing_and_wrong_data_items_are_told() {
    let damaged = Damaged::new();
    let image = text(&damaged.lower, "id");
    let manifest = damaged.path(&format!("vfs-images/{image}/manifest"));
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, [&bytes[..], b" "].concat()).unwrap();
    let item = damaged.path(&format!("vfs-containers/{}/userdata", damaged.container));
    let (folder, _) = item.rsplit_once('/').unwrap();
    fs::remove_file(format!("{folder}/item")).unwrap();
    let (code, out, _) = damaged.check(&[]);
    let id = &damaged.container;
    let wrong =
        format!("image {image}: data item \"manifest\": image data item has incorrect size");
    let missing = format!("container {id}: data item \"item\": container data item is missing");
    let expected = format!("image {image}:\n {wrong}\ncontainer {id}:\n {wrong}\n {missing}\n");
    assert_eq!((code, out), (1, expected));
    // A container keeps its image until it may be removed too.
    let (code, _, err) = damaged.check(&["-r"]);
    assert_eq!(code, 1);
    let used =
        format!("deleting image {image}: image used by {id}: image is in use by a container\n");
    assert!(
        err.starts_with(&used) && err.contains("hint: --force"),
        "{err}"
    );
    assert_eq!(
        (damaged.count("containers"), damaged.count("images")),
        (1, 2)
    );
    let (code, _, err) = damaged.check(&["-r", "-f"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        (damaged.count("containers"), damaged.count("images")),
        (0, 1)
    );
    assert_eq!(damaged.sandbox.ok(&["check"]), "");
}

#[test]
fn directories_without_record_and_layers_without_user_are_removed() {
    let damaged = Damaged::new();
    fs::create_dir(damaged.path("vfs/dir/strange")).unwrap();
    let (code, out, _) = damaged.check(&[]);
    assert_eq!(
        (code, out.as_str()),
        (
            1,
            "layer strange:\n layer strange: layer in lower level storage driver not accounted for\n"
        )
    );
    let unused = damaged.sandbox.ok(&["create-layer"]);
    let unused = unused.trim();
    let (code, out, err) = damaged.check(&["-r"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!out.contains(unused), "it is young: {out}");
    assert!(!fs::exists(damaged.path("vfs/dir/strange")).unwrap());
    let (code, out, _) = damaged.check(&["--max", "1ns"]);
    let expected = format!(
        "layer {unused}:\n layer {unused}: layer not referenced by any images or containers\n"
    );
    assert_eq!((code, out), (1, expected));
    let before = damaged.count("layers");
    // No age is too young: nothing was removed once, as if the option had not been given.
    assert_eq!(damaged.check(&["-m=0s", "-r"]).0, 0);
    assert_eq!(damaged.count("layers"), before - 1);
    let text = damaged.sandbox.fails(&["check", "--max", "1d"]);
    assert_eq!(text, "time: unknown unit \"d\" in duration \"1d\"\n");
}

/// A text that is no digest in one record closed the store for everybody: `layers` and `delete-image` failed, too.
#[test]
fn a_text_in_the_place_of_a_digest_is_in_nobodys_way() {
    let sandbox = Sandbox::new();
    let item = sandbox.file("item", "an item\n");
    sandbox.ok(&["create-layer", "-i", "base"]);
    for image in ["good", "bad"] {
        sandbox.ok(&["create-image", "-i", image, "-n", image, "base"]);
        sandbox.ok(&["set-image-data", "-f", &item, image, "manifest"]);
    }
    sandbox.ok(&["create-container", "-i", "c", "good"]);
    sandbox.ok(&["set-container-data", "-f", &item, "c", "key"]);
    let file = |kind: &str| sandbox.path(&format!("graph/vfs-{kind}/{kind}.json"));
    let records = |kind: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(file(kind)).unwrap()).unwrap()
    };
    let write = |kind: &str, records: &serde_json::Value| {
        std::fs::write(file(kind), serde_json::to_vec(records).unwrap()).unwrap();
    };
    let mut images = records("images");
    let list = images.as_array_mut().unwrap();
    let bad = list.iter_mut().find(|image| image["id"] == "bad").unwrap();
    let good_digest = bad["digest"].take();
    bad["digest"] = "bogus".into();
    bad["big-data-digests"] = serde_json::json!({"manifest": "", "manifest-2": "sha256:12"});
    write("images", &images);
    let mut layers = records("layers");
    layers[0]["toc-digest"] = "bogus".into();
    write("layers", &layers);
    let mut containers = records("containers");
    containers[0]["big-data-digests"]["key"] = "md5:0".into();
    write("containers", &containers);

    assert_eq!(sandbox.ok(&["layers", "-q"]).lines().count(), 2);
    assert_eq!(sandbox.ok(&["images", "-q"]), "good\nbad\n");
    assert_eq!(sandbox.ok(&["containers"]).lines().next(), Some("c"));
    let found = sandbox.ok(&["images-by-digest", "-q", good_digest.as_str().unwrap()]);
    assert_eq!(found, "good\n");
    assert_eq!(
        sandbox.ok(&["get-image-data", "bad", "manifest"]),
        "an item\n"
    );
    // A change elsewhere in the record leaves them as they are.
    sandbox.ok(&["add-names", "-n", "another", "bad"]);
    sandbox.ok(&["add-names", "-n", "another", "base"]);
    sandbox.ok(&["add-names", "-n", "another", "c"]);
    let after = records("images");
    let after = after.as_array().unwrap();
    let bad = after.iter().find(|image| image["id"] == "bad").unwrap();
    assert_eq!(bad["digest"], "bogus");
    assert_eq!(
        bad["big-data-digests"],
        serde_json::json!({"manifest": "", "manifest-2": "sha256:12"})
    );
    assert_eq!(records("layers")[0]["toc-digest"], "bogus");
    assert_eq!(records("containers")[0]["big-data-digests"]["key"], "md5:0");
    let ran = sandbox.run(&["check"]);
    assert_eq!(ran.code, 1);
    for text in [
        "image bad: its digest is no digest: \"bogus\"",
        "image bad: the digest of data item \"manifest\" is no digest: \"\"",
        "image bad: the digest of data item \"manifest-2\" is no digest: \"sha256:12\"",
        "layer base: the digest of its table of contents is no digest: \"bogus\"",
        "container c: the digest of data item \"key\" is no digest: \"md5:0\"",
    ] {
        assert!(
            (ran.out.clone() + &ran.err).contains(text),
            "{text}: {}{}",
            ran.out,
            ran.err
        );
    }
    sandbox.ok(&["delete-image", "bad"]);
    assert_eq!(sandbox.ok(&["images", "-q"]), "good\n");
}
