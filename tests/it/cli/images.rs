//! `commit` and `push`: images of containers, and where they go.

use std::process::Command;

use serde_json::{Value, json};

use super::{Ran, Sandbox};

const TIME: &str = "1700000000";

/// A container on nothing with one file, and another with the same but for its times.
fn container(sandbox: &Sandbox, name: &str) {
    sandbox.ok(&["create-container", "--name", name, ""]);
    let root = sandbox.ok(&["mount", name]);
    std::fs::create_dir(format!("{}/bin", root.trim())).unwrap();
    std::fs::write(format!("{}/bin/web", root.trim()), "a program").unwrap();
    sandbox.ok(&["unmount", name]);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn config(sandbox: &Sandbox, id: &str) -> Value {
    json(&sandbox.ok(&["get-image-data", id, &format!("sha256:{id}")]))
}

#[test]
fn an_image_of_a_container_says_what_was_asked_for() {
    let sandbox = Sandbox::new();
    container(&sandbox, "c");
    let text = sandbox.ok(&[
        "commit",
        "--author=me",
        "-m",
        "a reason",
        "-c",
        r#"ENTRYPOINT ["/bin/web"]"#,
        "-c",
        "LABEL a.b=c",
        "-c",
        "USER 7",
        "--timestamp",
        TIME,
        "--iidfile",
        &sandbox.path("id"),
        "-j",
        "c",
        "web:1",
    ]);
    let committed = json(&text);
    let id = committed["id"].as_str().unwrap();
    assert_eq!(committed["names"], json!(["localhost/web:1"]));
    assert_eq!(committed["layer-size"], 2560);
    assert_eq!(
        std::fs::read_to_string(sandbox.path("id")).unwrap(),
        format!("sha256:{id}")
    );
    let config = config(&sandbox, id);
    let expected = json!({ "Entrypoint": ["/bin/web"], "Labels": { "a.b": "c" }, "User": "7" });
    assert_eq!(config["config"], expected);
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["author"], "me");
    assert_eq!(config["history"][0]["comment"], "a reason");
    let image = json(&sandbox.ok(&["image", "-j", "localhost/web:1"]));
    assert_eq!(image[0]["created"], "2023-11-14T22:13:20Z");
    assert_eq!(image[0]["layer"], committed["layer"]);
    assert_eq!(image[0]["digest"], committed["digest"]);
    // All of its files have the time.
    let layer = committed["layer"].as_str().unwrap();
    let archive = sandbox.path("layer.tar");
    sandbox.ok(&["diff", "-u", "-f", &archive, layer]);
    let listed = Command::new("tar")
        .args(["--utc", "-tvf", &archive])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("2023-11-14 22:13").count(), 2, "{listed}");
}

#[test]
fn the_same_files_give_the_same_image_and_a_second_image_stands_on_the_first() {
    let (one, two) = (Sandbox::new(), Sandbox::new());
    let commit = |sandbox: &Sandbox| {
        container(sandbox, "c");
        sandbox.ok(&["commit", "--timestamp", TIME, "c", "web"])
    };
    let id = commit(&one);
    assert_eq!(commit(&two), id);
    // Once more gives no second image, but a second name.
    assert_eq!(one.ok(&["commit", "--timestamp", TIME, "c", "also"]), id);
    let names = one.ok(&["get-names", id.trim()]);
    assert_eq!(names, "localhost/also:latest\nlocalhost/web:latest\n");

    one.ok(&["create-container", "--name", "d", "localhost/web:latest"]);
    let unchanged = json(&one.ok(&["commit", "-c", "CMD ls", "-j", "d"]));
    assert_eq!(
        unchanged["layer-size"], 0,
        "nothing was changed, so no layer is new"
    );
    assert_eq!(unchanged["names"], json!([]));
    let first = json(&one.ok(&["image", "-j", id.trim()]));
    assert_eq!(unchanged["layer"], first[0]["layer"]);
    let root = one.ok(&["mount", "d"]);
    std::fs::write(format!("{}/bin/more", root.trim()), "more").unwrap();
    std::fs::remove_file(format!("{}/bin/web", root.trim())).unwrap();
    let changed = json(&one.ok(&["commit", "-j", "d", "web:2"]));
    let config = config(&one, changed["id"].as_str().unwrap());
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    let layer = json(&one.ok(&["layer", "-j", changed["layer"].as_str().unwrap()]));
    assert_eq!(layer[0]["parent"], first[0]["layer"]);
    let changes = one.ok(&["changes", changed["layer"].as_str().unwrap()]);
    let expected = "Modify \"/bin\"\nAdd \"/bin/more\"\nDelete \"/bin/web\"\n";
    assert_eq!(changes, expected);
}

#[test]
fn the_time_of_sources_is_taken_from_the_environment() {
    let sandbox = Sandbox::new();
    container(&sandbox, "c");
    let commit = |more: &[&str]| -> Ran {
        Command::new(env!("CARGO_BIN_EXE_strata"))
            .env_clear()
            .env("SOURCE_DATE_EPOCH", TIME)
            .args([
                "--graph",
                &sandbox.path("graph"),
                "--run",
                &sandbox.path("run"),
            ])
            .args(["--storage-driver", "vfs", "commit"])
            .args(more)
            .args(["c"])
            .output()
            .unwrap()
            .into()
    };
    let id = commit(&["--rewrite-timestamp"]);
    assert_eq!(id.code, 0, "{}", id.err);
    assert_eq!(
        config(&sandbox, id.out.trim())["created"],
        "2023-11-14T22:13:20Z"
    );
    // The files are younger than that, so they got it too.
    assert_eq!(sandbox.ok(&["commit", "--timestamp", TIME, "c"]), id.out);
    assert_ne!(commit(&[]).out, id.out);
}

#[test]
fn layers_that_were_filled_by_hand_are_made_image_layers() {
    let sandbox = Sandbox::new();
    let layer = sandbox.ok(&["create-layer"]);
    let root = sandbox.ok(&["mount", layer.trim()]);
    std::fs::write(format!("{}/below", root.trim()), "by hand").unwrap();
    sandbox.ok(&["unmount", layer.trim()]);
    sandbox.ok(&["create-image", "-n", "by-hand", layer.trim()]);
    let text = sandbox.fails(&["push", "by-hand", &format!("oci:{}", sandbox.path("x"))]);
    assert!(text.contains("no manifest\nhint: make one of it"), "{text}");
    assert!(!std::fs::exists(sandbox.path("x")).unwrap());

    sandbox.ok(&["create-container", "--name", "c", "by-hand"]);
    let root = sandbox.ok(&["mount", "c"]);
    std::fs::write(format!("{}/above", root.trim()), "in the container").unwrap();
    let id = sandbox.ok(&["commit", "c", "whole"]);
    let layers = config(&sandbox, id.trim())["rootfs"]["diff_ids"].clone();
    assert_eq!(layers.as_array().unwrap().len(), 2);
    sandbox.ok(&["push", "-q", "whole", &format!("oci:{}", sandbox.path("x"))]);
}

#[test]
fn an_image_of_a_container_with_other_owners_stands_on_the_layers_of_its_image() {
    let sandbox = Sandbox::new();
    container(&sandbox, "c");
    sandbox.ok(&["commit", "c", "web"]);
    sandbox.ok(&[
        "create-container",
        "--uidmap=0:5000:100",
        "--gidmap=0:5000:100",
        "--name",
        "mapped",
        "localhost/web:latest",
    ]);
    let root = sandbox.ok(&["mount", "mapped"]);
    let file = format!("{}/bin/new", root.trim());
    std::fs::write(&file, "new").unwrap();
    std::os::unix::fs::chown(&file, Some(5007), Some(5000)).unwrap();
    sandbox.ok(&["unmount", "mapped"]);
    let committed = json(&sandbox.ok(&["commit", "-j", "mapped", "mapped"]));
    let layer = committed["layer"].as_str().unwrap();
    let record = json(&sandbox.ok(&["layer", "-j", layer]));
    let base = json(&sandbox.ok(&["image", "-j", "localhost/web:latest"]));
    assert_eq!(record[0]["parent"], base[0]["layer"]);
    assert!(record[0].get("uidmap").is_none());
    let archive = sandbox.path("layer.tar");
    sandbox.ok(&["diff", "-u", "-f", &archive, layer]);
    let listed = Command::new("tar")
        .args(["--numeric-owner", "-tvf", &archive])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(" 7/0 "), "{listed}");
}

#[test]
fn what_was_pushed_is_pulled_elsewhere_as_it_was() {
    let (here, there) = (Sandbox::new(), Sandbox::new());
    container(&here, "c");
    let id = here.ok(&["commit", "c", "web:1"]);
    let folder = here.path("layout");
    let layout = format!("oci:{folder}:web");
    let ran = here.run(&["push", "web:1", &layout]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("web:1: 1 layers to push"), "{}", ran.err);
    let digest = ran.out.trim();
    let again = here.ok(&["push", "-j", "-q", "web:1", &layout]);
    let again = json(&again);
    assert_eq!(again["digest"], digest);
    assert_eq!(again["destination"], layout);
    let archive = format!("oci-archive:{}", here.path("web.tar"));
    here.ok(&[
        "push",
        "-q",
        "--digestfile",
        &here.path("digest"),
        id.trim(),
        &archive,
    ]);
    assert_eq!(
        std::fs::read_to_string(here.path("digest")).unwrap(),
        digest
    );
    for (number, compression) in ["gzip", "zstd", "none"].into_iter().enumerate() {
        let other = format!("oci:{}:{compression}", here.path("other"));
        let sent = json(&here.ok(&["push", "-jq", "--compression", compression, "web:1", &other]));
        assert_eq!(sent["layers-sent"], 1);
        let name = format!("n{number}");
        assert_eq!(there.ok(&["pull", "-q", "-n", &name, &other]), id);
    }
    for source in [&layout, &archive] {
        assert_eq!(there.ok(&["pull", "-q", source]), id);
    }
    // What was pulled goes on as it came, byte for byte.
    let next = format!("oci:{}:web", there.path("next"));
    let other = Sandbox::new();
    other.ok(&["pull", "-q", "-n", "x", &layout]);
    let sent = json(&other.ok(&["push", "-jq", "x", &next]));
    assert_eq!(sent["digest"], digest, "our own gzip gives the same bytes");
}

#[test]
fn a_commit_that_fails_says_what_to_do() {
    let sandbox = Sandbox::new();
    let text = sandbox.fails(&["commit", "nobody", "x"]);
    assert!(
        text.starts_with("nobody: container not known\nhint: "),
        "{text}"
    );
    container(&sandbox, "c");
    for (arguments, expected) in [
        (&["-c", "RUN ls"][..], "\"RUN\" is not one of CMD"),
        (&["--timestamp", "today"], "date +%s"),
        (&["--timestamp=1", "--source-date-epoch=1"], "together"),
        (&["--rewrite-timestamp"], "SOURCE_DATE_EPOCH"),
    ] {
        let text = sandbox.fails(&[&["commit"], arguments, &["c"]].concat());
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    assert!(
        sandbox
            .fails(&["commit", "c", "Web"])
            .contains("lower case")
    );
    let digest = format!("x@sha256:{}", "0".repeat(64));
    assert!(
        sandbox
            .fails(&["commit", "c", &digest])
            .contains("name a tag")
    );
    assert_eq!(sandbox.run(&["commit"]).code, 125);
    assert_eq!(sandbox.ok(&["images", "-j"]), "null\n");
}

#[test]
fn a_push_that_fails_says_what_to_do() {
    let sandbox = Sandbox::new();
    container(&sandbox, "c");
    sandbox.ok(&["commit", "c", "web"]);
    let text = sandbox.fails(&["push", "nothing", "oci:x"]);
    assert!(
        text.starts_with("nothing: image not known\nhint: "),
        "{text}"
    );
    let text = sandbox.fails(&["push", "web", "dir:x"]);
    assert!(text.contains("not dir:"), "{text}");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    let file = sandbox.file("folder/file", "x");
    let text = sandbox.fails(&["push", "web", &format!("oci:{}", sandbox.path("folder"))]);
    assert!(text.contains("no image layout"), "{text}");
    assert_eq!(std::fs::read(file).unwrap(), b"x");
    let missing = format!("oci-archive:{}/x.tar", sandbox.path("missing"));
    let text = sandbox.fails(&["push", "web", &missing]);
    assert!(text.contains("missing"), "{text}");
    let digest = format!("127.0.0.1:1/x@sha256:{}", "0".repeat(64));
    assert!(
        sandbox
            .fails(&["push", "web", &digest])
            .contains("name a tag")
    );
    assert_eq!(
        sandbox
            .run(&["push", "--compression=lzw", "web", "oci:x"])
            .code,
        125
    );
}
