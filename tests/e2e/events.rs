//! What events say.

use serde_json::Value;

use super::cluster::{list, wait_for};
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

/// Warnings about an object.
pub fn warnings(object: &Value) -> Vec<String> {
    let about = about(object);
    let warnings = about.iter().filter(|event| event["type"] == "Warning");
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
            tries += failure["count"].as_u64().unwrap_or(1);
            assert!(tries < 2, "{texts:?} are not all in: {message}");
        }
        None
    });
    println!("{}: at try {tries}: {message}", pod.name);
    assert!(tries <= 2, "at try {tries}: {message}");
}
