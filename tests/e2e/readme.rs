//! The way into a cluster that the README shows, word for word.

use std::fs;

use super::chart::{NAMESPACE, RELEASE, helm};
use super::images::{page, site};
use super::pod::Running;
use super::stage::play;
use super::support::tool::Tool;

/// The commands in the section's blocks of the console, as lines of a script.
fn commands(section: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("the README");
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

#[test]
fn a_newcomer_gets_a_volume_by_what_the_readme_says() {
    play(|| {
        helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).ok();
        // The cluster is up, and there is no way from its node to the registries of the world: the image of one's own
        // comes from elsewhere.
        let mine = site("readme");
        let script = commands("In a cluster")
            .lines()
            .filter(|line| *line != "make cluster" && !line.starts_with("export "))
            .map(|line| {
                line.replace(
                    "docker://docker.io/library/busybox:1",
                    &format!("--src-tls-verify=false docker://{mine}"),
                )
            })
            .collect::<Vec<_>>()
            .join("\n");
        let ran = Tool::new("bash")
            .args(["-euo", "pipefail", "-c"])
            .arg(format!("cd '{}'\n{script}", env!("CARGO_MANIFEST_DIR")))
            .ok();
        assert_eq!(ran.last_line(), "mine", "{script}\n{ran}");
        let pod = Running {
            name: "first".to_owned(),
        };
        assert_eq!(pod.shell("cat /site/index.html"), page("readme"));
    });
}
