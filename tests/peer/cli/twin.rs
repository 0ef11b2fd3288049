//! [`Twin`]: a store and the program that works on it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::Tool;

/// One of the twins.
pub(super) struct Twin {
    program: PathBuf,
    scratch: Scratch,
    driver: &'static str,
    /// IDs that were drawn, by the order of their appearance.
    ids: HashMap<String, String>,
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// The same with the lines, or the elements of a JSON list, in order.
    pub(super) fn sorted(self) -> Self {
        let list = self
            .out
            .strip_prefix("[{")
            .and_then(|rest| rest.strip_suffix("}]"));
        let mut parts: Vec<&str> = match list {
            Some(list) => list.split("},{").collect(),
            None => self.out.lines().collect(),
        };
        parts.sort_unstable();
        Self {
            out: parts.join("\n"),
            ..self
        }
    }
}

impl Twin {
    pub(super) fn new(program: &Path, driver: &'static str) -> Self {
        let scratch = Scratch::new("twin");
        let twin = Self {
            program: program.to_owned(),
            scratch,
            driver,
            ids: HashMap::new(),
        };
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(twin.scratch.path().join(name), bytes).unwrap();
        };
        let layer = Layer::new()
            .dir("./")
            .dir("d")
            .file("d/one", "one\n")
            .file("two", "a second file\n")
            .symlink("link", "two");
        write("layer.tar", &layer.tar());
        write(
            "over.tar",
            &Layer::new()
                .file("two", "changed\n")
                .whiteout("d/one")
                .tar(),
        );
        write("item", b"an item <with> & such\n");
        write("text", b"metadata of a file\n");
        write("junk", b"junk");
        std::fs::write(twin.scratch.dir("stage").join("staged"), "staged").unwrap();
        let strange = twin.scratch.dir("strange");
        std::os::unix::fs::chown(strange, Some(4321), Some(4322)).unwrap();
        twin
    }

    pub(super) fn run(&mut self, line: &[&str]) -> Said {
        self.run_by(&self.program.clone(), line)
    }

    /// The same by another program, on this one's store.
    pub(super) fn run_by(&mut self, program: &Path, line: &[&str]) -> Said {
        let root = self.scratch.path().to_str().unwrap().to_owned();
        let arguments = line
            .iter()
            .map(|argument| argument.replace("@/", &format!("{root}/")));
        let ran = Tool::at(program)
            .args([
                "--graph",
                &self.scratch.text("g"),
                "--run",
                &self.scratch.text("r"),
            ])
            .args(["--storage-driver", self.driver])
            .args(arguments)
            .output();
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        Said {
            code: ran.code,
            out: self.normal(&out, program),
            err: self.normal(&ran.stderr, program),
        }
    }

    /// The text without what must differ.
    fn normal(&mut self, text: &str, program: &Path) -> String {
        let root = self.scratch.path().to_str().unwrap();
        let program = program.to_str().unwrap();
        let text = text.replace(root, "@").replace(program, "strata");
        let mut normal = String::new();
        let mut word = String::new();
        for letter in text.chars().chain(['\0']) {
            if letter.is_ascii_alphanumeric() {
                word.push(letter);
                continue;
            }
            if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                // What follows a colon is a digest: those must be equal as they are.
                if !normal.ends_with("sha256:") {
                    let next = format!("<id {}>", self.ids.len());
                    word = self.ids.entry(word).or_insert(next).clone();
                }
            }
            normal.push_str(&word);
            word.clear();
            normal.push(letter);
        }
        normal.pop();
        // Log lines of the peer are not part of its answer.
        let lines = normal.lines().filter(|line| !line.starts_with("time="));
        let normal: Vec<String> = lines.map(without_times).collect();
        normal.join("\n")
    }
}

/// A line whose creation times are all the same.
fn without_times(line: &str) -> String {
    let mut parts = line.split("\"created\":\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("\"created\":\"<time>");
        text.push_str(&part[part.find('"').unwrap_or(0)..]);
    }
    text
}
