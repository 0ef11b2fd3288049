//! Volumes on a real store with the vfs driver, and a mount table in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mounts::memory::Memory;
use super::mounts::{Mounted, Mounts};
use super::*;
use crate::node::kubernetes::{Bound, Cluster, memory};
use crate::node::lanes::Limits;
use crate::oci::pull::{Puller, PullerOptions};
use crate::oci::{RegistryOptions, Transport};
use crate::store;

struct Node {
    temp: tempfile::TempDir,
    mounts: Arc<Memory>,
    volumes: Arc<Volumes>,
}

impl Node {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("kubelet")).unwrap();
        let mounts = Arc::new(Memory::default());
        let volumes = open(temp.path(), &mounts);
        Self {
            temp,
            mounts,
            volumes,
        }
    }

    /// As after a kill: the store is opened anew, the mount table is as it was.
    async fn restart(&mut self) -> Recovery {
        self.volumes = open(self.temp.path(), &self.mounts);
        self.volumes.recover().await.unwrap()
    }

    fn target(&self, name: &str) -> PathBuf {
        self.temp.path().join("kubelet").join(name)
    }

    fn mounted(&self, name: &str) -> Option<Mounted> {
        self.mounts.mounted(&self.target(name)).unwrap()
    }

    fn handle(&self, text: &str) -> Handle {
        Handle::parse(text, self.volumes.store_id())
    }

    async fn publish(&self, wanted: Publication) -> Result<(), Error> {
        self.volumes.publish(wanted, soon()).await
    }

    async fn unpublish(&self, handle: &str, target: &str) -> Result<(), Error> {
        self.volumes
            .unpublish(self.handle(handle), self.target(target))
            .await
    }

    fn wanted(&self, handle: &str, target: &str) -> Publication {
        Publication {
            handle: self.handle(handle),
            target: self.target(target),
            attributes: Attributes::default(),
            flags: MountFlags::default(),
            access: Access::SingleWriter,
            group: None,
            secret: None,
        }
    }

    fn containers(&self) -> usize {
        self.volumes.store.containers().unwrap().len()
    }
}

fn open(root: &Path, mounts: &Arc<Memory>) -> Arc<Volumes> {
    let mut config = store::Config::in_roots(root.join("graph"), root.join("run"));
    config.driver = Some("vfs".to_owned());
    let store = Store::open(config).unwrap();
    let lanes = Lanes::new(Limits::default());
    let puller = Puller::new(
        store.clone(),
        tokio::runtime::Handle::current(),
        Transport::new(RegistryOptions::default()),
        PullerOptions::default(),
    );
    let volumes = Volumes::new(Parts {
        images: Images::new(puller, lanes.clone(), Arc::default()),
        store,
        lanes,
        mounts: Arc::clone(mounts) as Arc<dyn Mounts>,
        kubelet_dir: root.join("kubelet"),
        metrics: Arc::default(),
        events: Arc::new(crate::node::events::Log),
    });
    Arc::new(volumes.unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn inline(digit: char) -> String {
    format!("csi-{}", String::from(digit).repeat(64))
}

fn kind<T: fmt::Debug>(result: Result<T, Error>) -> Kind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn garbage_is_removed_and_volumes_stay() {
    let node = Node::new();
    node.publish(node.wanted(&inline('a'), "one"))
        .await
        .unwrap();
    let garbage = node.temp.path().join("graph/vfs/dir").join("b".repeat(64));
    std::fs::create_dir(&garbage).unwrap();
    let collected = node.volumes.collect(Duration::ZERO).await.unwrap();
    assert_eq!((collected.unfinished, collected.unrecorded), (0, 1));
    assert!(!garbage.exists());
    assert!(node.mounted("one").is_some());
    node.unpublish(&inline('a'), "one").await.unwrap();
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn an_inline_volume_lives_from_publish_to_unpublish() {
    let node = Node::new();
    let a = inline('a');
    for _ in 0..2 {
        node.publish(node.wanted(&a, "one")).await.unwrap();
        assert!(!node.mounted("one").unwrap().flags.read_only);
        assert_eq!(node.containers(), 1);
    }
    let usage = node
        .volumes
        .stats(&node.handle(&a), &node.target("one"))
        .await
        .unwrap();
    assert!(usage.bytes.total >= usage.bytes.available);
    for _ in 0..2 {
        node.unpublish(&a, "one").await.unwrap();
        assert_eq!(node.mounted("one"), None);
        assert!(!node.target("one").try_exists().unwrap());
        assert_eq!(node.containers(), 0);
    }
}

#[tokio::test]
async fn several_targets_need_the_access_mode_for_it() {
    let node = Node::new();
    let a = inline('a');
    node.publish(node.wanted(&a, "one")).await.unwrap();
    assert_eq!(
        kind(node.publish(node.wanted(&a, "two")).await),
        Kind::InUse
    );
    let mut second = node.wanted(&a, "two");
    second.access = Access::MultiWriter;
    second.flags.read_only = true;
    node.publish(second).await.unwrap();
    assert!(node.mounted("two").unwrap().flags.read_only);
    node.unpublish(&a, "one").await.unwrap();
    assert_eq!(node.containers(), 1);
    node.unpublish(&a, "two").await.unwrap();
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn another_wish_at_the_same_target_is_refused() {
    let node = Node::new();
    let a = inline('a');
    node.publish(node.wanted(&a, "one")).await.unwrap();
    let mut read_only = node.wanted(&a, "one");
    read_only.flags.read_only = true;
    assert_eq!(kind(node.publish(read_only).await), Kind::Differs);
    let mut other_image = node.wanted(&a, "one");
    other_image.attributes.image = Some("busybox:1".to_owned());
    assert_eq!(kind(node.publish(other_image).await), Kind::Differs);
    let other_volume = node.wanted(&inline('b'), "one");
    assert_eq!(kind(node.publish(other_volume).await), Kind::InUse);
    node.unpublish(&inline('b'), "one").await.unwrap();
    assert!(node.mounted("one").is_some());
}

#[tokio::test]
async fn targets_in_use_or_out_of_place_are_refused_before_anything_is_made() {
    let node = Node::new();
    let a = inline('a');
    std::fs::write(node.target("file"), "x").unwrap();
    std::fs::create_dir_all(node.target("full/of/things")).unwrap();
    for used in ["file", "full"] {
        assert_eq!(
            kind(node.publish(node.wanted(&a, used)).await),
            Kind::InUse,
            "{used}"
        );
    }
    for bad in ["missing/parent", "../outside", ""] {
        assert_eq!(
            kind(node.publish(node.wanted(&a, bad)).await),
            Kind::Invalid,
            "{bad}"
        );
    }
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn a_restart_finds_what_is_published() {
    let mut node = Node::new();
    let a = inline('a');
    node.publish(node.wanted(&a, "one")).await.unwrap();
    let recovery = node.restart().await;
    assert_eq!((recovery.volumes, recovery.targets), (1, 1));
    node.publish(node.wanted(&a, "one")).await.unwrap();
    assert_eq!(
        kind(node.publish(node.wanted(&a, "two")).await),
        Kind::InUse
    );
    node.restart().await;
    node.unpublish(&a, "one").await.unwrap();
    assert_eq!(node.mounted("one"), None);
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn an_unpublish_that_was_cut_short_goes_on() {
    let node = Node::new();
    let a = inline('a');
    node.publish(node.wanted(&a, "one")).await.unwrap();
    // As if killed between taking the target away and deleting the volume.
    node.mounts.unmount(&node.target("one")).unwrap();
    std::fs::remove_dir(node.target("one")).unwrap();
    node.unpublish(&a, "one").await.unwrap();
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn one_operation_at_a_time_on_a_volume() {
    let node = Node::new();
    let a = inline('a');
    let turn = node
        .volumes
        .gate
        .enter(node.handle(&a).container(), "a publish")
        .unwrap();
    assert_eq!(kind(node.publish(node.wanted(&a, "one")).await), Kind::Busy);
    assert_eq!(kind(node.unpublish(&a, "one").await), Kind::Busy);
    drop(turn);
    node.publish(node.wanted(&a, "one")).await.unwrap();
}

#[tokio::test]
async fn handles_that_lead_nowhere() {
    let node = Node::new();
    let elsewhere = format!("v1.00000000.{}", "c".repeat(64));
    let unknown = node.volumes.store_id().handle_for_name("never").to_string();
    for handle in [elsewhere.as_str(), &unknown, "v1.broken", "whatever"] {
        assert_eq!(
            kind(node.publish(node.wanted(handle, "one")).await),
            Kind::NotFound,
            "{handle}"
        );
        node.unpublish(handle, "one").await.unwrap();
    }
    let mut named = node.wanted("whatever", "one");
    named.attributes.ephemeral = Some(true);
    node.publish(named).await.unwrap();
    node.unpublish("whatever", "one").await.unwrap();
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn the_group_gets_the_root_of_the_volume() {
    use std::os::unix::fs::MetadataExt;
    let node = Node::new();
    let a = inline('a');
    let mut wanted = node.wanted(&a, "one");
    // A group that this process may give files to, root or not.
    let group = std::fs::metadata(node.temp.path()).unwrap().gid();
    wanted.group = Some(group);
    node.publish(wanted).await.unwrap();
    let container = node.handle(&a).container().to_owned();
    let layer = store::id::of_container_layer(&container);
    let root = std::fs::metadata(node.volumes.place(&container, &layer)).unwrap();
    assert_eq!(root.gid(), group);
    assert_eq!(root.mode() & 0o2070, 0o2070);
}

fn creation(name: &str, required: i64) -> Creation {
    Creation {
        name: name.to_owned(),
        attributes: Attributes::default(),
        range: Range { required, limit: 0 },
        secret: None,
    }
}

#[tokio::test]
async fn a_claims_volume_is_made_once_and_outlives_its_targets() {
    let node = Node::new();
    let made = node.volumes.create(creation("a", 7), soon()).await.unwrap();
    let again = node.volumes.create(creation("a", 7), soon()).await.unwrap();
    assert_eq!(made, again);
    assert_eq!(made.definition.capacity, 7);
    assert_eq!(
        kind(node.volumes.create(creation("a", 8), soon()).await),
        Kind::Differs
    );
    assert_eq!(
        kind(node.volumes.create(creation("b", i64::MAX), soon()).await),
        Kind::Full
    );
    let handle = made.handle.to_string();
    node.publish(node.wanted(&handle, "one")).await.unwrap();
    assert_eq!(
        kind(node.volumes.delete(made.handle.clone()).await),
        Kind::InUse
    );
    node.unpublish(&handle, "one").await.unwrap();
    node.volumes.find(&made.handle).await.unwrap();
    node.volumes.delete(made.handle.clone()).await.unwrap();
    node.volumes.delete(made.handle.clone()).await.unwrap();
    assert_eq!(kind(node.volumes.find(&made.handle).await), Kind::NotFound);
}

#[tokio::test]
async fn lists_have_pages_and_no_inline_volumes() {
    let node = Node::new();
    node.publish(node.wanted(&inline('a'), "one"))
        .await
        .unwrap();
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        let volume = node.volumes.create(creation(name, 0), soon()).await;
        made.push(volume.unwrap().handle.to_string());
    }
    made.sort();
    let (first, next) = node.volumes.list(None, Some(2)).await.unwrap();
    let next = next.unwrap();
    let (rest, end) = node
        .volumes
        .list(Some(next.container()), Some(2))
        .await
        .unwrap();
    assert_eq!(end, None);
    let listed: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|volume| volume.handle.to_string())
        .collect();
    assert_eq!(listed, made);
}

#[tokio::test]
async fn volumes_at_once_do_not_disturb_each_other() {
    let node = Node::new();
    let work: Vec<_> = ('0'..='9')
        .map(|digit| {
            let volumes = Arc::clone(&node.volumes);
            let wanted = node.wanted(&inline(digit), &format!("target-{digit}"));
            tokio::spawn(async move {
                let (handle, target) = (wanted.handle.clone(), wanted.target.clone());
                volumes.publish(wanted, soon()).await.unwrap();
                volumes.unpublish(handle, target).await.unwrap();
            })
        })
        .collect();
    for one in work {
        one.await.unwrap();
    }
    assert_eq!(node.containers(), 0);
    assert!(node.volumes.index().is_empty());
}

#[test]
fn a_secret_does_not_print() {
    let secret = PullSecret::new("hunter2".to_owned());
    assert!(!format!("{secret:?}").contains("hunter2"));
    assert_eq!(secret.expose(), "hunter2");
}

#[tokio::test]
async fn an_image_that_can_not_be_had() {
    let node = Node::new();
    let with = |image: &str, policy| {
        let mut wanted = node.wanted(&inline('a'), "one");
        wanted.attributes.image = Some(image.to_owned());
        wanted.attributes.pull_policy = Some(policy);
        wanted
    };
    let never = with("host/image:1", PullPolicy::Never);
    assert_eq!(kind(node.publish(never).await), Kind::NotFound);
    for bad in ["", "UPPER", "oci:/etc", "host/image:"] {
        let wanted = with(bad, PullPolicy::Never);
        assert_eq!(kind(node.publish(wanted).await), Kind::Invalid, "{bad}");
    }
    let mut secret = with("host/image:1", PullPolicy::Never);
    secret.secret = Some(PullSecret::new("not JSON".to_owned()));
    let error = node.publish(secret).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(!crate::node::chain(&error).contains("not JSON"));
    // Nothing listens there.
    let wanted = with("127.0.0.1:1/image:1", PullPolicy::IfNotPresent);
    let soon = Instant::now() + Duration::from_millis(100);
    let error = node.volumes.publish(wanted, soon).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(node.containers(), 0);
}

#[tokio::test]
async fn the_volume_of_a_pod_that_went_unseen_is_swept() {
    let mut node = Node::new();
    let mut gone = node.wanted(&inline('a'), "one");
    let pod = |uid: &str| {
        Some(attributes::Pod {
            uid: uid.to_owned(),
            ..attributes::Pod::default()
        })
    };
    gone.attributes.pod = pod("gone");
    let mut kept = node.wanted(&inline('b'), "two");
    kept.attributes.pod = pod("kept");
    node.publish(gone).await.unwrap();
    node.publish(kept).await.unwrap();
    // As after a reboot: nothing is mounted.
    node.mounts = Arc::default();
    node.restart().await;
    let none = Duration::ZERO;
    let mut missing = std::collections::HashMap::new();
    let volumes = &node.volumes;
    assert_eq!(volumes.sweep(&mut missing, none, None).await.unwrap(), 0);
    std::fs::create_dir_all(node.target("pods/kept")).unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(volumes.sweep(&mut missing, hour, None).await.unwrap(), 0);
    // Neither while nobody can be asked, nor while the cluster knows the pod.
    let cluster = Arc::new(memory::Memory::default());
    let bound = Bound {
        cluster: Arc::clone(&cluster) as Arc<dyn Cluster>,
        node: "node-1".to_owned(),
    };
    cluster.state().is_down = true;
    let result = volumes.sweep(&mut missing, none, Some(&bound)).await;
    assert_eq!(kind(result), Kind::Unavailable);
    cluster.state().is_down = false;
    cluster.state().pods.insert("gone".to_owned());
    let swept = volumes.sweep(&mut missing, none, Some(&bound)).await;
    assert_eq!(swept.unwrap(), 0);
    assert_eq!(node.containers(), 2);
    cluster.state().pods.clear();
    let swept = volumes.sweep(&mut missing, none, Some(&bound)).await;
    assert_eq!(swept.unwrap(), 1);
    assert_eq!(node.containers(), 1);
}

#[tokio::test]
async fn everybody_may_write_into_a_scratch_volume() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    let a = inline('a');
    node.publish(node.wanted(&a, "one")).await.unwrap();
    let container = node.handle(&a).container().to_owned();
    let place = node
        .volumes
        .place(&container, &store::id::of_container_layer(&container));
    let mode = || std::fs::metadata(&place).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o777);
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).unwrap();
    node.publish(node.wanted(&a, "one")).await.unwrap();
    assert_eq!(mode(), 0o700);
}
