//! The way into a cluster that the README shows, word for word.

use std::fs;

use super::chart::{NAMESPACE, RELEASE, helm};
use super::images::{page, site};
use super::pod::Running;
use super::stage::play;
use super::support::tool::{Ran, Tool};

/// The README's other way for an image, out of a store of Podman's: here one of its own, in which `image` is.
fn copy_from_a_store(image: &str) -> String {
    let readme = readme();
    let (_, command) = readme
        .split_once("\n`skopeo copy ")
        .expect("another way for an image");
    let (arguments, _) = command.split_once('`').expect("its end");
    let name = "containers-storage:localhost/mine";
    assert!(arguments.contains(name), "{arguments}");
    let store = "containers-storage:[vfs@$store/graph+$store/run]localhost/mine";
    let arguments = arguments.replace(name, store);
    format!(
        "store=$(mktemp -d); trap 'rm -rf \"$store\"' EXIT
         skopeo copy -q --src-tls-verify=false docker://{image} {store}
         skopeo copy {arguments}"
    )
}

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    fs::read_to_string(path).expect("the README")
}

/// The commands in the section's blocks of the console, as lines of a script.
fn commands(section: &str) -> String {
    let readme = readme();
    let (_, rest) = readme
        .split_once(&format!("\n## {section}\n"))
        .expect("the section");
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let mut script = String::new();
    let mut is_console = false;
    for line in section.lines() {
        match line {
            "```console" => is_console = true,
            "```" => is_console = false,
            _ if is_console => {
                script.push_str(line.strip_prefix("# ").unwrap_or(line));
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}

/// Runs lines as somebody who has just come and has set nothing, from the clone's folder.
fn type_in(script: &str) -> Ran {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    Tool::new("env")
        .arg("-i")
        .args(["HOME", "PATH", "TMPDIR"].map(|name| format!("{name}={}", variable(name))))
        .args(["bash", "-euo", "pipefail", "-c"])
        .arg(format!("cd '{}'\n{script}", env!("CARGO_MANIFEST_DIR")))
        .ok()
}

/// There is no way from the cluster's node to the registries of the world: the image of one's own comes from elsewhere.
fn with_image(script: &str, image: &str) -> String {
    let source = "docker://docker.io/library/busybox:1";
    assert!(script.contains(source), "{script}");
    script.replace(source, &format!("--src-tls-verify=false docker://{image}"))
}

/// The command that installs the chart, in one line.
fn install(script: &str) -> String {
    let (_, command) = script.split_once("helm install ").expect("helm install");
    let command = command.replace("\\\n", " ");
    let line = command.lines().next().unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_newcomer_gets_a_volume_by_what_the_readme_says() {
    play(|| {
        helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).ok();
        let script = commands("In a cluster");
        let script = script
            .strip_prefix("make cluster\n")
            .expect("the first line");
        assert!(script.starts_with("export KUBECONFIG="), "{script}");
        let image = site("readme");
        type_in(&copy_from_a_store(&image));
        let ran = type_in(&with_image(script, &image));
        let said = ran.text();
        assert!(said.lines().any(|line| line == "mine"), "{script}\n{ran}");
        assert_eq!(ran.last_line(), "kept", "{script}\n{ran}");
        let pod = Running {
            name: "first".to_owned(),
        };
        assert_eq!(pod.shell("cat /site/index.html"), page("readme"));
    });
}

#[test]
fn what_make_cluster_prints_can_be_typed() {
    play(|| {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/start-cluster");
        let text = Tool::new(program).arg("--help-text").ok().text();
        // Commands are the lines that are indented, and all of those from the pod on.
        let (before, pod) = text.split_once("\nkubectl apply").expect("a pod");
        let (pod, _) = pod.split_once("\n\n").expect("an end of the pod");
        let before: Vec<_> = before
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .collect();
        let script = format!("{}\nkubectl apply{pod}\n", before.join("\n"));
        assert_eq!(install(&script), install(&commands("In a cluster")));
        // It is installed already.
        let script = script.replace("helm install ", "helm upgrade --install ");
        let ran = type_in(&with_image(&script, &site("printed")));
        assert!(ran.text().contains("node-1"), "{ran}");
        let said = ran.text();
        assert!(said.contains(" usr") && said.contains(" written"), "{ran}");
    });
}
