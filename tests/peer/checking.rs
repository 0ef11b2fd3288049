//! `check` of Strata and of the newest peer say the same of the same damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::shared::Shared;
use crate::support::scratch::unmount_below;
use crate::support::tool::{Ran, Tool};

/// IDs by kind, as the JSON of `check` has them.
fn told(ran: &Ran) -> BTreeMap<String, Vec<String>> {
    let Value::Object(kinds) = ran.json() else {
        panic!("no object: {ran}");
    };
    let ids = |value: &Value| value.as_object().unwrap().keys().cloned().collect();
    kinds
        .iter()
        .map(|(kind, value)| (kind.clone(), ids(value)))
        .collect()
}

fn check(program: &Whose<'_>, graph: &Path, run: &Path, flags: &[&str]) -> Ran {
    let tool = match program {
        Whose::Peer => Tool::new("containers-storage-newest"),
        Whose::Strata(binary) => Tool::at(binary),
    };
    let ran = tool
        .arg("--graph")
        .arg(graph)
        .arg("--run")
        .arg(run)
        .args(["--storage-driver", "overlay", "check"])
        .args(flags)
        .output();
    unmount_below(graph.parent().unwrap());
    ran
}

/// Whose `check`.
enum Whose<'a> {
    Peer,
    Strata(&'a Path),
}

#[test]
fn both_find_the_same_damage_and_none_where_there_is_none() {
    let shared = Shared::new();
    shared.pull();
    let layout = shared.scratch.path().join("umoci");
    crate::support::image::build_with_umoci(shared.scratch.path(), &layout, "x");
    shared
        .strata(&["pull", "-q", &format!("oci:{}:x", layout.display())])
        .ok();
    shared
        .strata(&["create-container", "--name", "c", &shared.reference])
        .ok();
    let root = shared.strata(&["mount", "c"]).ok().last_line();
    fs::write(format!("{root}/data/new"), "new").unwrap();
    fs::remove_dir_all(format!("{root}/etc")).unwrap();
    shared.strata(&["commit", "c", "web"]).ok();
    // Ours unmounts nothing.
    let clean = shared.strata(&["check"]).ok();
    assert_eq!(clean.text(), "");
    assert!(fs::exists(format!("{root}/data/new")).unwrap());
    shared.strata(&["unmount", "c"]).ok();
    unmount_below(&shared.settings.graph);

    let layers = shared.strata(&["layers", "--json"]).ok().json();
    let of = |diff_id: &str| {
        let layers = layers.as_array().unwrap();
        let found = layers
            .iter()
            .find(|layer| layer["diff-digest"] == diff_id)
            .unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let [lowest, .., top] = shared.built.diff_ids.as_slice() else {
        panic!("an image of several layers");
    };
    let (lowest, top) = (of(lowest), of(top));
    let image = &shared.built.id;
    let scripts = [
        "true".to_owned(),
        format!("echo x > overlay/{top}/diff/data/added"),
        format!("chmod 600 overlay/{lowest}/diff/bin/busybox"),
        format!("rm overlay/{lowest}/diff/bin/busybox"),
        format!("rm -r overlay/{top}/diff/data"),
        format!("rm overlay-images/{image}/manifest"),
        format!("echo >> overlay-images/{image}/manifest"),
        format!("mkdir overlay/{}", "a".repeat(64)),
        format!("rm overlay-layers/{top}.tar-split.gz"),
    ];
    let copy = shared.scratch.path().join("copy");
    for script in scripts {
        let results = [Whose::Peer, Whose::Strata(&shared.settings.binary)].map(|program| {
            Tool::new("cp")
                .args(["-a", "--one-file-system"])
                .arg(&shared.settings.graph)
                .arg(&copy)
                .ok();
            Tool::new("sh")
                .args(["-ec", "cd \"$0\"; eval \"$1\""])
                .arg(&copy)
                .arg(&script)
                .ok();
            let run = shared.scratch.path().join("check-run");
            let ran = check(&program, &copy, &run, &["--json"]);
            // What either calls repaired, the peer finds whole.
            let repaired = check(&program, &copy, &run, &["--repair", "--force"]);
            assert_eq!(repaired.code, 0, "{script}: {repaired}");
            let after = check(&Whose::Peer, &copy, &run, &[]);
            assert_eq!(after.code, 0, "{script}: {after}");
            fs::remove_dir_all(&copy).unwrap();
            (ran.code, told(&ran))
        });
        let [(their_code, mut theirs), (our_code, mut ours)] = results;
        assert_eq!(our_code, their_code, "{script}");
        // The peer tells of other owners and modes once more for each layer above; we where it is.
        let [their_layers, our_layers] =
            [&mut theirs, &mut ours].map(|told| told.remove("Layers").unwrap());
        assert_eq!(our_layers.is_empty(), their_layers.is_empty(), "{script}");
        assert!(
            our_layers.iter().all(|id| their_layers.contains(id)),
            "{script}"
        );
        assert_eq!(ours, theirs, "{script}");
    }
}
