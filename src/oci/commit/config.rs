//! The config of an image that is made of a container.

use serde_json::{Map, Value, json};

use super::change::Change;
use crate::digest::Digest;
use crate::oci::manifest::Platform;
use crate::store::Time;

/// Keys that tell of the container that an image was made of; they would tell of another one.
const STALE: [&str; 5] = ["container", "container_config", "id", "parent", "throwaway"];

/// What is new in an image.
#[derive(Debug)]
pub(super) struct News<'a> {
    /// When it was made.
    pub(super) created: Time,
    /// Who made it, if that is to be changed.
    pub(super) author: Option<&'a str>,
    /// What the history shall say of it.
    pub(super) message: Option<&'a str>,
    /// What it runs as.
    pub(super) changes: &'a [Change],
    /// All of its layers, lowest first.
    pub(super) diff_ids: &'a [Digest],
    /// True when the uppermost one is new.
    pub(super) has_new_layer: bool,
}

/// The config of an image on the one whose config is `base`: empty for an image on nothing.
pub(super) fn write(mut base: Map<String, Value>, news: &News<'_>) -> Vec<u8> {
    base.retain(|key, _| !STALE.contains(&key.as_str()) && !key.starts_with("moby.buildkit."));
    let host = Platform::host();
    for (key, value) in [("architecture", host.architecture), ("os", host.os)] {
        let entry = base.entry(key).or_insert(Value::Null);
        if entry.as_str().is_none_or(str::is_empty) {
            *entry = json!(value);
        }
    }
    let config = base.entry("config").or_insert(Value::Null);
    if !config.is_object() {
        *config = json!({});
    }
    if let Some(config) = config.as_object_mut() {
        for change in news.changes {
            change.apply(config);
        }
    }
    let history = history(base.get("history"), news);
    base.insert("history".into(), history);
    base.insert("created".into(), json!(news.created.to_string()));
    if let Some(author) = news.author {
        base.insert("author".into(), json!(author));
    }
    let root = json!({ "type": "layers", "diff_ids": news.diff_ids });
    base.insert("rootfs".into(), root);
    Value::Object(base).to_string().into_bytes()
}

/// The history with one more entry. It has one for each layer, also where the base's says less.
fn history(old: Option<&Value>, news: &News<'_>) -> Value {
    let mut entries = old.and_then(Value::as_array).cloned().unwrap_or_default();
    let is_layer = |entry: &&Value| entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
    let known = entries.iter().filter(is_layer).count();
    let below = news.diff_ids.len() - usize::from(news.has_new_layer);
    let created = news.created.to_string();
    for _ in known..below {
        entries.push(json!({ "created": created, "comment": "a layer without history" }));
    }
    let mut entry = Map::new();
    entry.insert("created".into(), json!(created));
    entry.insert("created_by".into(), json!("strata commit"));
    if let Some(author) = news.author {
        entry.insert("author".into(), json!(author));
    }
    if let Some(message) = news.message {
        entry.insert("comment".into(), json!(message));
    }
    if !news.has_new_layer {
        entry.insert("empty_layer".into(), json!(true));
    }
    entries.push(Value::Object(entry));
    Value::Array(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news<'a>(diff_ids: &'a [Digest], changes: &'a [Change]) -> News<'a> {
        News {
            created: "2024-01-02T03:04:05Z".parse().unwrap(),
            author: Some("me"),
            message: None,
            changes,
            diff_ids,
            has_new_layer: true,
        }
    }

    fn written(base: &Value, news: &News<'_>) -> Value {
        let base = base.as_object().unwrap().clone();
        serde_json::from_slice(&write(base, news)).unwrap()
    }

    #[test]
    fn an_image_on_nothing_says_all_that_it_must() {
        let diff_ids = [Digest::of(b"a")];
        let changes = ["USER root".parse().unwrap()];
        let found = written(&json!({}), &news(&diff_ids, &changes));
        assert_eq!(
            found,
            json!({
                "architecture": Platform::host().architecture,
                "os": "linux",
                "author": "me",
                "created": "2024-01-02T03:04:05Z",
                "config": { "User": "root" },
                "history": [{
                    "created": "2024-01-02T03:04:05Z",
                    "created_by": "strata commit",
                    "author": "me",
                }],
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            })
        );
    }

    #[test]
    fn what_the_base_says_stays_but_for_what_is_stale() {
        let diff_ids = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let base = json!({
            "architecture": "arm64", "variant": "v8", "os": "linux", "author": "them",
            "config": { "Env": ["A=1"], "Healthcheck": { "Test": ["NONE"] } },
            "container": "x", "container_config": {}, "moby.buildkit.cache.v0": "x",
            "history": [{ "created_by": "one" }, { "created_by": "ENV", "empty_layer": true }],
        });
        let mut news = news(&diff_ids, &[]);
        news.author = None;
        news.message = Some("done");
        let found = written(&base, &news);
        assert_eq!(found["architecture"], "arm64");
        assert_eq!(found["author"], "them");
        assert_eq!(found["config"], base["config"]);
        assert!(found.get("container_config").is_none() && found.get("container").is_none());
        assert!(found.get("moby.buildkit.cache.v0").is_none());
        let history = found["history"].as_array().unwrap();
        // Two entries for layers below, one of which the base did not have, and ours.
        assert_eq!(history.len(), 4);
        assert_eq!(history[3]["comment"], "done");
        news.has_new_layer = false;
        let found = written(&base, &news);
        assert_eq!(found["history"].as_array().unwrap().len(), 5);
        assert_eq!(found["history"][4]["empty_layer"], true);
    }
}
