//! What events say.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cluster::{NODE, list, wait_for, wait_until_none};
use super::pod::Running;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The events about an object. Its UID finds them: those of an earlier object of the same name are still there.
fn about(object: &Value) -> Vec<Value> {
    let uid = object["metadata"]["uid"].as_str().expect("a UID");
    let selector = format!("involvedObject.uid={uid}");
    list(&["events", "--all-namespaces", "--field-selector", &selector])
}

/// Reason and message of the events about an object.
pub fn of(object: &Value) -> Vec<(String, String)> {
    about(object)
        .iter()
        .map(|event| (text(&event["reason"]), text(&event["message"])))
        .collect()
}

/// Waits for an event of this reason, and returns its message. The first one counts: people look once.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn first(object: &Value, reason: &str) -> String {
    wait_for(&format!("an event {reason}"), || {
        of(object)
            .into_iter()
            .find(|(found, _)| found == reason)
            .map(|(_, message)| message)
    })
}

/// Waits until the object has an event of this reason that says all of `texts`.
///
/// # Panics
/// With all that it was told instead.
#[track_caller]
pub fn assert_told(object: &Value, reason: &str, texts: &[&str]) {
    wait_until_none(&format!("no event {reason} that says {texts:?}"), || {
        let told = of(object);
        let says_all = |message: &str| texts.iter().all(|text| message.contains(text));
        let mut told_of_it = told.iter().filter(|(found, _)| found == reason);
        if told_of_it.any(|(_, message)| says_all(message)) {
            return Vec::new();
        }
        let mut instead = vec!["this was told".to_owned()];
        instead.extend(
            told.iter()
                .map(|(reason, text)| format!("{reason}: {text}")),
        );
        instead
    });
}

/// The pod found its images in the store: nothing was pulled for it.
#[track_caller]
pub fn assert_nothing_pulled(pod: &Running) {
    let told = of(&pod.object());
    assert!(
        told.iter().all(|(reason, _)| !reason.starts_with("Volume")),
        "{told:?}"
    );
}

/// How often the object was told this.
pub fn times(object: &Value, reason: &str) -> u64 {
    let told = about(object);
    let of_it = told.iter().filter(|event| event["reason"] == reason);
    of_it.map(count).sum()
}

fn count(event: &Value) -> u64 {
    event["count"].as_u64().unwrap_or(1)
}

/// Something went wrong that is not Kubernetes' own: on a busy machine the kubelet asks for the claim of a new pod before
/// the API server has learnt that the pod is on this node, is refused, and asks again.
fn is_warning(event: &Value) -> bool {
    let is_early = text(&event["message"]).contains("no relationship found between node");
    event["type"] == "Warning" && !is_early
}

/// Warnings about an object.
pub fn warnings(object: &Value) -> Vec<String> {
    let about = about(object);
    let warnings = about.iter().filter(|event| is_warning(event));
    warnings
        .map(|event| format!("{}: {}", text(&event["reason"]), text(&event["message"])))
        .collect()
}

/// Nothing went wrong with the pod so far.
///
/// # Panics
/// With the warnings about it.
#[track_caller]
pub fn assert_calm(pod: &Running) {
    let warnings = warnings(&pod.object());
    assert!(warnings.is_empty(), "{}: {warnings:#?}", pod.name);
}

/// The pod was told that it started, once, and neither of an end nor of anything that went wrong.
///
/// # Panics
/// With all that it was told.
#[track_caller]
pub fn assert_undisturbed(pod: &Running) {
    let told = about(&pod.object());
    let times = |reason: &str| -> u64 {
        let of_it = told.iter().filter(|event| event["reason"] == reason);
        of_it.map(count).sum()
    };
    assert!(
        !told.iter().any(is_warning) && times("Started") == 1 && times("Killing") == 0,
        "{}: {told:#?}",
        pod.name
    );
}

/// Mounting fails, and the first or the second failure says all of `texts`: the kubelet waits ever longer before it tries
/// again, and people look at once.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn assert_mount_fails(pod: &Running, texts: &[&str]) {
    let object = pod.object();
    let (tries, message) = wait_for("a failed mount that says why", || {
        let mut failures = about(&object);
        failures.retain(|event| event["reason"] == "FailedMount");
        // The end of an event's name is the time of its first occurrence in nanoseconds; others are whole seconds.
        failures.sort_by_key(|event| text(&event["metadata"]["name"]));
        let mut tries = 0;
        for failure in &failures {
            let message = text(&failure["message"]);
            if texts.iter().all(|text| message.contains(text)) {
                return Some((tries + 1, message));
            }
            tries += count(failure);
            assert!(tries < 2, "{texts:?} are not all in: {message}");
        }
        None
    });
    println!("{}: at try {tries}: {message}", pod.name);
    assert!(tries <= 2, "at try {tries}: {message}");
}

/// The node's events from now on: of those before, nothing is to be learnt.
#[derive(Debug)]
pub struct NodeWatch(BTreeSet<String>);

impl NodeWatch {
    /// Begins.
    pub fn begin() -> Self {
        Self(of_node().iter().map(name).collect())
    }

    /// Waits for an event of this reason that says all of `texts`.
    #[track_caller]
    pub fn wait_for(&self, reason: &str, texts: &[&str]) {
        let message = wait_for(&format!("an event {reason} of the node"), || {
            of_node()
                .into_iter()
                .filter(|event| event["reason"] == reason && !self.0.contains(&name(event)))
                .map(|event| text(&event["message"]))
                .find(|message| texts.iter().all(|text| message.contains(text)))
        });
        println!("{reason}: {message}");
    }
}

fn of_node() -> Vec<Value> {
    let selector = format!("involvedObject.kind=Node,involvedObject.name={NODE}");
    list(&["events", "--all-namespaces", "--field-selector", &selector])
}

fn name(event: &Value) -> String {
    text(&event["metadata"]["name"])
}
