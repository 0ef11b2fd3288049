//! What events say.

use serde_json::Value;

use super::cluster::{list, wait_for};
use super::pod::Running;

/// Reason and message of the events about an object. Its UID finds them: those of an earlier object of the same name
/// are still there.
pub fn of(object: &Value) -> Vec<(String, String)> {
    let uid = object["metadata"]["uid"].as_str().expect("a UID");
    let selector = format!("involvedObject.uid={uid}");
    let events = list(&["events", "--all-namespaces", "--field-selector", &selector]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
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

/// The first failure to mount says all of `texts`.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn assert_mount_fails(pod: &Running, texts: &[&str]) {
    let message = first(&pod.object(), "FailedMount");
    println!("{}: {message}", pod.name);
    for text in texts {
        assert!(message.contains(text), "{text:?} is not in: {message}");
    }
}
