//! What a store has on disk, to be compared: what failed must have left nothing there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::plugin::Settings;
use super::scratch::mounts_below;

/// Layers, images, containers and mounts: of each its record, folders, short links, big data and recipe, and what is
/// staged. Read without any Strata, which might put in order what it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing(BTreeSet<String>);

impl Standing {
    /// As it is now.
    pub fn of(settings: &Settings) -> Self {
        let mut found = BTreeSet::new();
        let driver = &settings.storage_driver;
        for folder in [
            driver.clone(),
            format!("{driver}/l"),
            "strata/staging".into(),
        ] {
            found.extend(names(&settings.graph, &folder));
        }
        for kind in ["layers", "images", "containers"] {
            let folder = format!("{driver}-{kind}");
            found.extend(names(&settings.graph, &folder));
            found.extend(records(&settings.graph, &format!("{folder}/{kind}.json")));
        }
        let root = settings.graph.parent().expect("a parent");
        let mounts = mounts_below(root);
        found.extend(
            mounts
                .iter()
                .map(|path| format!("mount {}", path.display())),
        );
        Self(found)
    }

    /// The records and mounts alone, without what no record points at: that is garbage, which goes by itself.
    pub fn recorded(settings: &Settings) -> Self {
        let all = Self::of(settings).0.into_iter();
        Self(all.filter(|line| line.contains(' ')).collect())
    }

    /// Whether there is a record of this ID.
    pub fn has_record(&self, id: &str) -> bool {
        let id = format!("{id:?}");
        self.0.iter().any(|line| line.contains(&id))
    }

    /// Fails unless all is as it was, or becomes so soon: some of what was made is removed behind the answer.
    #[track_caller]
    pub fn assert_kept(&self, settings: &Settings) {
        self.assert_like(settings, Self::of);
    }

    /// The same for what `look` sees.
    #[track_caller]
    pub fn assert_like(&self, settings: &Settings, look: fn(&Settings) -> Self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = look(settings);
            if now == *self {
                return;
            }
            let more: Vec<_> = now.0.difference(&self.0).collect();
            let less: Vec<_> = self.0.difference(&now.0).collect();
            assert!(
                Instant::now() < deadline,
                "something is half done, left: {more:#?}\nmissing: {less:#?}\n{}",
                settings.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The entries of a folder, but for lock files and record files, with which all is well whether they are there or not.
fn names(graph: &Path, folder: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(graph.join(folder)) else {
        return BTreeSet::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock") && !name.ends_with(".json"))
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

/// The IDs in a record file, or its text when it is none.
fn records(graph: &Path, file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(graph.join(file)).unwrap_or_default();
    match serde_json::from_str::<Option<Vec<serde_json::Value>>>(&text) {
        Ok(records) => records
            .unwrap_or_default()
            .iter()
            .map(|record| format!("{file} {} {}", record["id"], record["flags"]))
            .collect(),
        Err(_) if text.is_empty() => BTreeSet::new(),
        Err(_) => BTreeSet::from([format!("{file} {text:?}")]),
    }
}
