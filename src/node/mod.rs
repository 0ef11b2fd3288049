//! The CSI node plugin.
//!
//! | File | What |
//! |---|---|
//! | [`csi`] | the wire: services, requests, status codes, sockets |
//! | [`volume`] | volumes: what is asked for, what is found, what is done |
//! | [`config`] | everything the plugin needs to know |
//! | [`preflight`] | what is looked at before the plugin's container is made |
//! | [`plugin`] | the plugin's life: build, recover, start, drain |
//! | [`events`] | what the owners of pods are told |
//! | [`front`] | what serves before the store is open: health, and the cluster's view of it |
//! | `upkeep` | what is done again and again: checks, sweeps |
//! | [`lanes`] | the only bridge from asynchronous code to blocking work |
//! | [`checks`] | what the node lacks |
//! | [`health`] | readiness, and the HTTP endpoint that shows it |
//! | [`kubernetes`] | what is asked of the Kubernetes API, and told there |
//! | [`metrics`] | what is counted |

pub mod checks;
pub mod config;
pub mod csi;
pub mod events;
pub mod front;
pub mod health;
pub mod kubernetes;
pub mod lanes;
pub mod metrics;
pub mod plugin;
pub mod preflight;
mod upkeep;
pub mod volume;

pub use config::Config;
pub use front::Front;
pub use plugin::{Error, Plugin, Running, run, run_until};

/// An error with everything that led to it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        // A transparent wrapper shows its source as itself.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}
