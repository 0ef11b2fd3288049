//! The services over a real socket, on a store with the vfs driver and a mount table in memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::wire::controller_client::ControllerClient;
use super::wire::identity_client::IdentityClient;
use super::wire::node_client::NodeClient;
use super::wire::volume_capability::access_mode::Mode;
use super::wire::volume_capability::{AccessMode, AccessType, MountVolume};
use super::wire::{
    CapacityRange, CreateVolumeRequest, DeleteVolumeRequest, GetCapacityRequest,
    GetPluginInfoRequest, ListVolumesRequest, NodeGetInfoRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, ProbeRequest, Topology,
    TopologyRequirement, VolumeCapability,
};
use crate::node::volume::mounts::memory::Memory;
use crate::node::{Config, Front, Plugin, Running};
use crate::store::{self, Store};

struct Served {
    temp: tempfile::TempDir,
    running: Running,
    channel: Channel,
}

impl Served {
    async fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("kubelet/plugins_registry")).unwrap();
        let mut store = store::Config::in_roots(root.join("graph"), root.join("run"));
        store.driver = Some("vfs".to_owned());
        let socket = root.join("csi.sock");
        let mut config = Config::new(
            "node-1",
            root.join("kubelet"),
            format!("unix://{}", socket.display()),
        );
        config.grace = Duration::from_secs(1);
        let store = Store::open(store).unwrap();
        let front = Front::open(&config).await.unwrap();
        let plugin = Plugin::build(config, store, Arc::new(Memory::default()), front).unwrap();
        plugin.recover().await.unwrap();
        let running = plugin.start().await.unwrap();
        Self {
            channel: connect(socket).await,
            temp,
            running,
        }
    }

    fn target(&self) -> String {
        let target = self.temp.path().join("kubelet/target");
        target.display().to_string()
    }

    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        let mut client = NodeClient::new(self.channel.clone());
        client.node_publish_volume(request).await.map(drop)
    }

    fn request(&self) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: format!("csi-{}", "a".repeat(64)),
            target_path: self.target(),
            volume_capability: Some(mount()),
            ..Default::default()
        }
    }
}

async fn connect(socket: PathBuf) -> Channel {
    Endpoint::from_static("http://socket")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        }))
        .await
        .unwrap()
}

fn mount() -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
    }
}

fn attribute(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

#[tokio::test]
async fn bad_requests_get_their_code_and_a_text_and_no_details() {
    let served = Served::new().await;
    type Change = fn(&mut NodePublishVolumeRequest);
    let cases: [(Change, Code, &str); 9] = [
        (|r| r.volume_id.clear(), Code::InvalidArgument, "volume_id"),
        (
            |r| r.target_path.clear(),
            Code::InvalidArgument,
            "target_path",
        ),
        (
            |r| r.target_path = "a/b".to_owned(),
            Code::InvalidArgument,
            "absolute",
        ),
        (
            |r| r.target_path = "/elsewhere/x".to_owned(),
            Code::InvalidArgument,
            "kubelet's directory",
        ),
        (
            |r| r.target_path.push_str("/x/y"),
            Code::InvalidArgument,
            "parent directory is missing",
        ),
        (
            |r| r.volume_capability = None,
            Code::InvalidArgument,
            "volume_capability",
        ),
        (
            |r| r.volume_context = attribute("imagee", "x"),
            Code::InvalidArgument,
            "did you mean \"image\"?",
        ),
        (
            |r| r.volume_context = attribute("size", "1Gi"),
            Code::InvalidArgument,
            "not supported yet",
        ),
        (
            |r| r.volume_id = "v1.x".to_owned(),
            Code::NotFound,
            "does not exist",
        ),
    ];
    for (change, code, text) in cases {
        let mut request = served.request();
        change(&mut request);
        let status = served.publish(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
        assert!(status.details().is_empty());
    }
    let mut node = NodeClient::new(served.channel.clone());
    let staged = node.node_stage_volume(NodeStageVolumeRequest::default());
    assert_eq!(staged.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_volume_comes_and_goes_over_the_wire() {
    let served = Served::new().await;
    served.publish(served.request()).await.unwrap();
    let metrics = served.running.context().metrics.text();
    assert!(metrics.contains("strata_targets 1"), "{metrics}");
    let mut node = NodeClient::new(served.channel.clone());
    let request = NodeUnpublishVolumeRequest {
        volume_id: served.request().volume_id,
        target_path: served.target(),
    };
    for _ in 0..2 {
        node.node_unpublish_volume(request.clone()).await.unwrap();
    }
    let metrics = served.running.context().metrics.text();
    assert!(metrics.contains("strata_targets 0"), "{metrics}");
    assert!(metrics.contains(r#"strata_volumes{lifecycle="ephemeral"} 0"#));
}

#[tokio::test]
async fn claims_are_made_where_they_can_be_reached() {
    let served = Served::new().await;
    let mut controller = ControllerClient::new(served.channel.clone());
    let place = |value: &str| Topology {
        segments: attribute("topology.csi.strata.dev/pool-default", value),
    };
    let info = NodeClient::new(served.channel.clone())
        .node_get_info(NodeGetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    let here = info.accessible_topology.unwrap();
    let request = |requisite| CreateVolumeRequest {
        name: "pvc-1".to_owned(),
        capacity_range: Some(CapacityRange {
            required_bytes: 4096,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mount()],
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![requisite],
            preferred: Vec::new(),
        }),
        ..Default::default()
    };
    let elsewhere = controller.create_volume(request(place("another"))).await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::ResourceExhausted);
    let made = controller
        .create_volume(request(here.clone()))
        .await
        .unwrap();
    let volume = made.into_inner().volume.unwrap();
    assert_eq!(volume.capacity_bytes, 4096);
    assert_eq!(volume.accessible_topology, [here]);
    let listed = controller.list_volumes(ListVolumesRequest::default()).await;
    assert_eq!(listed.unwrap().into_inner().entries.len(), 1);
    let room = controller.get_capacity(GetCapacityRequest::default()).await;
    assert!(room.unwrap().into_inner().available_capacity > 0);
    let delete = DeleteVolumeRequest {
        volume_id: volume.volume_id,
        ..Default::default()
    };
    controller.delete_volume(delete).await.unwrap();
}

#[tokio::test]
async fn the_kubelet_can_register_the_plugin() {
    use super::registration::wire::registration_client::RegistrationClient;
    use super::registration::wire::{InfoRequest, RegistrationStatus};
    let served = Served::new().await;
    let path = served
        .temp
        .path()
        .join("kubelet/plugins_registry/csi.strata.dev-reg.sock");
    let mut client = RegistrationClient::new(connect(path.clone()).await);
    let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.r#type, "CSIPlugin");
    assert_eq!(info.name, "csi.strata.dev");
    assert!(info.endpoint.ends_with("/csi.sock"));
    client
        .notify_registration_status(RegistrationStatus {
            plugin_registered: true,
            error: String::new(),
        })
        .await
        .unwrap();
    served.running.drain().await;
    assert!(!path.try_exists().unwrap());
}

#[tokio::test]
async fn a_draining_plugin_says_so() {
    let served = Served::new().await;
    let mut identity = IdentityClient::new(served.channel.clone());
    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await;
    let info = info.unwrap().into_inner();
    assert_eq!(info.name, "csi.strata.dev");
    assert!(!info.vendor_version.is_empty());
    let probe = identity.probe(ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(true));
    served.running.context().readiness.close();
    let probe = identity.probe(ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(false));
    let status = served.publish(served.request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
