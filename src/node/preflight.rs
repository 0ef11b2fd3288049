//! Before the plugin's container is made: are the node's mounts such that the container runtime will make it?
//!
//! A runtime refuses a container that is to hand its mounts on (`Bidirectional`) from a mount that is not shared, and
//! then there is no plugin that could say what is wrong with the node. A container before it, which asks for no such
//! mounts, says it instead.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checks::Problem;
use super::config::Config;
use super::front::Front;
use super::plugin::{Error, failed, wait_for_signal};
use crate::store;
use crate::sys::{File, mount_table};

/// How often the node is looked at.
const PAUSE: Duration = Duration::from_secs(2);
/// For how long it is waited for. Then the runtime decides: it may know better, where it has mounts of its own.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long events may take to be told in the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Directories of the node whose mounts its container runtime is to hand on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeMounts {
    /// The mounts of the node's first process, as the kernel lists them.
    table: PathBuf,
    paths: Vec<PathBuf>,
}

impl NodeMounts {
    fn of(config: &Config, store: &store::Config, table: PathBuf) -> Self {
        let paths = [
            config.kubelet_dir.join("pods"),
            store.graph_root.clone(),
            store.run_root.clone(),
        ];
        Self {
            table,
            paths: paths
                .into_iter()
                .filter(|path| path.is_absolute())
                .collect(),
        }
    }

    /// What the runtime will refuse. A table that can't be read is none: then it decides by itself.
    fn look(&self) -> Option<Problem> {
        let table = match File::open(&self.table).and_then(|mut file| file.read_all()) {
            Ok(bytes) => mount_table::parse(&bytes),
            Err(error) => {
                tracing::warn!(error = %super::chain(&error), "the node's mounts are not looked at");
                return None;
            }
        };
        let is_private = |path: &&PathBuf| {
            mount_table::around(&table, path).is_some_and(|mount| !mount.is_shared)
        };
        let private: Vec<_> = self
            .paths
            .iter()
            .filter(is_private)
            .map(|path| path.display().to_string())
            .collect();
        (!private.is_empty()).then(|| Problem {
            what: format!(
                "{} of this node: not on a shared mount, so that pods would see none of their volumes, and the \
                 container runtime refuses the plugin",
                private.join(", ")
            ),
            remedy: "make the node's mounts shared, now and at each boot (systemd does so by itself): mount \
                     --make-rshared /",
            is_fatal: true,
        })
    }
}

/// Waits until the mounts that `table` lists (`/proc/1/mountinfo` of the node) are such that the plugin can be started.
/// Serves health and tells events meanwhile, as the plugin does.
///
/// # Errors
/// When health can't be served.
pub fn run(config: &Config, store: &store::Config, table: &Path) -> Result<(), Error> {
    let mounts = NodeMounts::of(config, store, table.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("the preflight", error))?;
    runtime.block_on(async {
        let front = Front::open(config).await?;
        tokio::select! {
            () = wait(&front, &mounts, PATIENCE) => {}
            _ = wait_for_signal() => {}
        }
        front.finish(LAST_WORDS).await;
        Ok(())
    })
}

async fn wait(front: &Front, mounts: &NodeMounts, patience: Duration) {
    let begun = Instant::now();
    loop {
        let mounts = mounts.clone();
        let found = front
            .look(move || mounts.look().into_iter().collect())
            .await;
        if found.is_empty() {
            return;
        }
        if begun.elapsed() >= patience {
            tracing::warn!("the container runtime is left to decide");
            return;
        }
        tokio::time::sleep(PAUSE.min(patience)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1 0 8:1 / / rw ROOT - ext4 /dev/sda rw\n\
                         2 1 8:2 / /var/lib/strata rw POOL - xfs /dev/sdb rw\n";

    fn mounts(folder: &Path, root: &str, pool: &str) -> NodeMounts {
        let table = folder.join("mountinfo");
        let text = TABLE.replace("ROOT", root).replace("POOL", pool);
        std::fs::write(&table, text).unwrap();
        let config = Config::new("node-1", "/var/lib/kubelet", "unix:///csi.sock");
        let store = store::Config::in_roots("/var/lib/strata", "/run/strata");
        NodeMounts::of(&config, &store, table)
    }

    #[test]
    fn every_place_that_is_not_shared_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let look = |root, pool| {
            let problem = mounts(temp.path(), root, pool).look();
            problem.map(|problem| problem.to_string())
        };
        assert_eq!(look("shared:1", "shared:2 master:1"), None);
        let pool = look("shared:1", "master:1").unwrap();
        assert!(
            pool.starts_with("/var/lib/strata of this node: not on a shared mount"),
            "{pool}"
        );
        assert!(pool.ends_with("; make the node's mounts shared, now and at each boot (systemd does so by itself): mount --make-rshared /"), "{pool}");
        let rest = look("", "shared:2").unwrap();
        assert!(
            rest.starts_with("/var/lib/kubelet/pods, /run/strata of this node"),
            "{rest}"
        );
    }

    #[test]
    fn a_table_that_can_not_be_read_keeps_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let mut mounts = mounts(temp.path(), "", "");
        mounts.table = temp.path().join("missing");
        assert_eq!(mounts.look(), None);
    }

    #[tokio::test]
    async fn it_waits_no_longer_than_its_patience() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::new("node-1", "/var/lib/kubelet", "unix:///csi.sock");
        let front = Front::open(&config).await.unwrap();
        wait(
            &front,
            &mounts(temp.path(), "", ""),
            Duration::from_millis(20),
        )
        .await;
        let said = front.readiness.check_all().unwrap_err().to_string();
        assert!(said.contains("not on a shared mount"), "{said}");
        wait(
            &front,
            &mounts(temp.path(), "shared:1", "shared:2"),
            Duration::from_secs(60),
        )
        .await;
        assert!(front.readiness.check_lacks().is_ok());
        front.finish(Duration::from_secs(1)).await;
    }
}
