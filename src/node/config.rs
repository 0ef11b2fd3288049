//! Everything that the plugin needs to know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::kubernetes::ApiServer;
use super::lanes::Limits;
use crate::oci::RegistryOptions;
use crate::oci::pull::PullerOptions;

/// The driver's name when none is given.
pub const DEFAULT_DRIVER_NAME: &str = "csi.strata.dev";

/// How the plugin is to run. The store has a configuration of its own.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node, as Kubernetes knows it.
    pub node_name: String,
    /// The kubelet's directory; all targets are below it.
    pub kubelet_dir: PathBuf,
    /// Where the plugin is served: `unix:///path/name.sock`.
    pub endpoint: String,
    /// Name of the driver.
    pub driver_name: String,
    /// Where health and metrics are served; `None` for nowhere.
    pub http_address: Option<SocketAddr>,
    /// The API server of the cluster, when the plugin runs in a pod.
    pub api: Option<ApiServer>,
    /// Whether the plugin registers itself with the kubelet, if that has a directory for it.
    pub is_registered: bool,
    /// Threads and queues.
    pub lanes: Limits,
    /// How registries are spoken to.
    pub registry: RegistryOptions,
    /// File with logins for volumes whose pull secret has none.
    pub logins: Option<PathBuf>,
    /// How much images may amount to, and how many are pulled at once.
    pub pulls: PullerOptions,
    /// How many volumes the node may have; 0 for no limit.
    pub max_volumes: i64,
    /// A file that is there when the node itself goes down, as the plugin is asked to end.
    pub shutdown_file: Option<PathBuf>,
    /// How long calls that run may take once the plugin is asked to end.
    pub grace: Duration,
}

/// The configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A node has a name.
    #[error("the node's name is empty, or longer than 256 bytes")]
    NodeName,
    /// The driver's name is a domain name.
    #[error(
        "the driver's name {name:?} must have at most 63 letters, digits, - and ., and begin and end with a letter or digit"
    )]
    DriverName {
        /// What was given.
        name: String,
    },
    /// Paths are absolute.
    #[error("the kubelet's directory {} must be an absolute path", path.display())]
    KubeletDir {
        /// What was given.
        path: PathBuf,
    },
}

impl Config {
    /// A configuration with defaults for everything that has one.
    pub fn new(
        node_name: impl Into<String>,
        kubelet_dir: impl Into<PathBuf>,
        endpoint: impl Into<String>,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            kubelet_dir: kubelet_dir.into(),
            endpoint: endpoint.into(),
            driver_name: DEFAULT_DRIVER_NAME.to_owned(),
            http_address: None,
            api: None,
            is_registered: true,
            lanes: Limits::default(),
            registry: RegistryOptions::default(),
            logins: None,
            pulls: PullerOptions::default(),
            max_volumes: 0,
            shutdown_file: None,
            grace: Duration::from_secs(20),
        }
    }

    /// Checks what can be checked without the system.
    ///
    /// # Errors
    /// For the first value that can't be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.node_name.is_empty() || self.node_name.len() > 256 {
            return Err(ConfigError::NodeName);
        }
        let name = self.driver_name.as_bytes();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
        let is_right = name.len() <= 63
            && name.first().is_some_and(is_word)
            && name.last().is_some_and(is_word)
            && name
                .iter()
                .all(|byte| is_word(byte) || matches!(byte, b'-' | b'.'));
        if !is_right {
            return Err(ConfigError::DriverName {
                name: self.driver_name.clone(),
            });
        }
        if !self.kubelet_dir.is_absolute() {
            return Err(ConfigError::KubeletDir {
                path: self.kubelet_dir.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_checked() {
        let good = Config::new("node-1", "/var/lib/kubelet", "unix:///csi.sock");
        good.check().unwrap();
        let cases: [fn(&mut Config); 6] = [
            |config| config.node_name.clear(),
            |config| config.driver_name.clear(),
            |config| config.driver_name = "csi_strata".to_owned(),
            |config| config.driver_name = ".dev".to_owned(),
            |config| config.driver_name = "a".repeat(64),
            |config| config.kubelet_dir = "kubelet".into(),
        ];
        for change in cases {
            let mut config = good.clone();
            change(&mut config);
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
