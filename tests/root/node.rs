//! A node with a plugin on an empty store, and the kubelet's connection to it.

use crate::support::plugin::{self, Kubelet, Plugin, Settings};
use crate::support::scratch::Scratch;
use crate::support::tool;

pub struct Node {
    pub kubelet: Kubelet,
    pub settings: Settings,
    pub plugin: Plugin,
    pub scratch: Scratch,
}

impl Node {
    pub fn new(name: &str) -> Self {
        tool::require_root();
        let scratch = Scratch::new(name);
        let settings = Settings::below(
            scratch.path(),
            &plugin::binary(env!("CARGO_BIN_EXE_strata")),
        );
        let plugin = Plugin::start(&settings);
        Self {
            kubelet: Kubelet::connect(&settings.socket),
            settings,
            plugin,
            scratch,
        }
    }
}
