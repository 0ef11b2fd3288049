//! `strata node` as a child process, and its gRPC clients as the kubelet and the sidecars use them.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strata::node::csi::wire;
use strata::node::csi::wire::controller_client::ControllerClient;
use strata::node::csi::wire::identity_client::IdentityClient;
use strata::node::csi::wire::node_client::NodeClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use wire::volume_capability::access_mode::Mode;
use wire::volume_capability::{AccessMode, AccessType, MountVolume};

use super::http;
use super::registry::free_address;

/// The binary under test: what cargo `built`, or what `STRATA_BINARY` puts in its place, be it an older release or
/// a stand-in that tries the tests themselves.
pub fn binary(built: &str) -> PathBuf {
    std::env::var_os("STRATA_BINARY").map_or_else(|| built.into(), PathBuf::from)
}

/// How a plugin is started; kept, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Settings {
    pub binary: PathBuf,
    pub graph: PathBuf,
    pub run: PathBuf,
    pub storage_driver: String,
    /// The root of the images in a split store.
    pub image_store: Option<PathBuf>,
    /// Values of `--storage-opt`.
    pub storage_options: Vec<String>,
    pub kubelet: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub environment: Vec<(String, String)>,
    /// More arguments of `strata node`.
    pub arguments: Vec<String>,
}

impl Settings {
    /// Everything below `folder`.
    pub fn below(folder: &Path, binary: &Path) -> Self {
        for name in ["graph", "run", "kubelet/plugins", "kubelet/pods"] {
            fs::create_dir_all(folder.join(name)).expect("a folder can be made");
        }
        Self {
            binary: binary.to_owned(),
            graph: folder.join("graph"),
            run: folder.join("run"),
            storage_driver: "overlay".to_owned(),
            image_store: None,
            storage_options: Vec::new(),
            kubelet: folder.join("kubelet"),
            socket: folder.join("csi.sock"),
            log: folder.join("plugin.log"),
            environment: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Arguments by which any command of Strata or a peer opens the plugin's store.
    pub fn store_arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut arguments = vec![
            "--graph".into(),
            text(&self.graph),
            "--run".into(),
            text(&self.run),
            "--storage-driver".into(),
            self.storage_driver.clone(),
        ];
        if let Some(root) = &self.image_store {
            arguments.extend(["--image-store".into(), text(root)]);
        }
        for option in &self.storage_options {
            arguments.extend(["--storage-opt".into(), option.clone()]);
        }
        arguments
    }

    /// The roots that last: the graph root, and that of the images in a split store.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        let images = self.image_store.as_deref();
        std::iter::once(self.graph.as_path()).chain(images)
    }

    /// The folders that these are in, with all that belongs to the store.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.roots()
            .map(|root| root.parent().expect("a root is in a folder"))
    }

    /// Where the kubelet would publish the volume `name` of the pod `pod`; its parent is made.
    pub fn target(&self, pod: &str, name: &str) -> PathBuf {
        let folder = self
            .kubelet
            .join("pods")
            .join(pod)
            .join("volumes/kubernetes.io~csi")
            .join(name);
        fs::create_dir_all(&folder).expect("the pod's folder can be made");
        folder.join("mount")
    }

    /// What the plugin has logged, for failures.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A running plugin; killed when dropped.
#[derive(Debug)]
pub struct Plugin {
    child: Child,
    pub settings: Settings,
    pub http: SocketAddr,
}

impl Plugin {
    /// Starts a plugin without waiting for it.
    pub fn spawn(settings: &Settings) -> Self {
        let http = free_address();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&settings.log)
            .expect("the plugin's log can be opened");
        let child = Command::new(&settings.binary)
            .args(settings.store_arguments())
            .args(["node", "--node-name", "node-one", "--kubelet-dir"])
            .arg(&settings.kubelet)
            .args(["--http", &http.to_string()])
            .args(&settings.arguments)
            .env(
                "CSI_ENDPOINT",
                format!("unix://{}", settings.socket.display()),
            )
            .envs(settings.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("run {}: {error}", settings.binary.display()));
        Self {
            child,
            settings: settings.clone(),
            http,
        }
    }

    /// Starts a plugin and waits until it says that it is ready.
    pub fn start(settings: &Settings) -> Self {
        let mut plugin = Self::spawn(settings);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !plugin.is_ready() {
            assert!(
                !plugin.has_ended() && Instant::now() < deadline,
                "the plugin does not get ready:\n{}",
                settings.log_text()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        plugin
    }

    /// Whether readiness is reported over HTTP.
    pub fn is_ready(&self) -> bool {
        http::request(self.http, "GET", "/readyz", &[], &[])
            .is_ok_and(|answer| answer.status == 200)
    }

    /// What readiness says over HTTP.
    pub fn readiness(&self) -> String {
        http::request(self.http, "GET", "/readyz", &[], &[])
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
            .unwrap_or_default()
    }

    /// Whether the process has ended (by itself or by a fault).
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child's state can be asked")
            .is_some()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as an out-of-memory kill or a crash would do.
    pub fn kill(mut self) -> Settings {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.settings.clone()
    }

    /// SIGTERM, and waits for the end; its exit code.
    pub fn stop(self) -> i32 {
        self.stop_by(rustix::process::Signal::TERM)
    }

    /// A signal, and waits for the end; its exit code.
    pub fn stop_by(mut self, signal: rustix::process::Signal) -> i32 {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).expect("a child can be signalled");
        let status = self.child.wait().expect("a child can be waited for");
        status.code().unwrap_or(-1)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A wish for a volume.
#[derive(Clone, Debug)]
pub struct Wish {
    pub volume: String,
    pub target: PathBuf,
    pub attributes: HashMap<String, String>,
    pub secrets: HashMap<String, String>,
    pub read_only: bool,
    pub mode: Mode,
}

impl Wish {
    /// An inline volume of `image`, or of nothing.
    pub fn inline(volume: &str, target: &Path, image: Option<&str>) -> Self {
        let mut attributes =
            HashMap::from([("csi.storage.k8s.io/ephemeral".into(), "true".into())]);
        if let Some(image) = image {
            attributes.insert("image".into(), image.into());
        }
        Self {
            volume: volume.to_owned(),
            target: target.to_owned(),
            attributes,
            secrets: HashMap::new(),
            read_only: false,
            mode: Mode::SingleNodeWriter,
        }
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    pub fn request(&self) -> wire::NodePublishVolumeRequest {
        wire::NodePublishVolumeRequest {
            volume_id: self.volume.clone(),
            target_path: self.target.to_str().expect("UTF-8").to_owned(),
            volume_capability: Some(capability(self.mode)),
            readonly: self.read_only,
            secrets: self.secrets.clone(),
            volume_context: self.attributes.clone(),
            ..Default::default()
        }
    }
}

/// A mounted volume in the given access mode.
pub fn capability(mode: Mode) -> wire::VolumeCapability {
    wire::VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

/// The handle that the kubelet gives an inline volume: `csi-` and 64 hex digits made from `seed`.
pub fn inline_handle(seed: &str) -> String {
    format!("csi-{}", super::image::hex(seed.as_bytes()))
}

/// Connects to the socket; each call that is made dials when it must.
///
/// # Panics
/// When `path` makes no address.
pub fn channel(socket: &Path) -> Channel {
    Endpoint::try_from(format!("unix://{}", socket.display()))
        .expect("a socket's address")
        .connect_lazy()
}

/// The kubelet, and the sidecars beside it, one call at a time.
#[derive(Debug)]
pub struct Kubelet {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Kubelet {
    pub fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let channel = runtime.block_on(async { channel(socket) });
        Self { runtime, channel }
    }

    /// NodePublishVolume.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn publish(&self, wish: &Wish) -> Result<(), Status> {
        let mut client = NodeClient::new(self.channel.clone());
        self.runtime
            .block_on(client.node_publish_volume(wish.request()))
            .map(|_| ())
    }

    /// NodeUnpublishVolume.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn unpublish(&self, volume: &str, target: &Path) -> Result<(), Status> {
        let mut client = NodeClient::new(self.channel.clone());
        self.runtime
            .block_on(
                client.node_unpublish_volume(wire::NodeUnpublishVolumeRequest {
                    volume_id: volume.to_owned(),
                    target_path: target.to_str().expect("UTF-8").to_owned(),
                }),
            )
            .map(|_| ())
    }

    /// NodeGetVolumeStats.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn stats(
        &self,
        volume: &str,
        path: &Path,
    ) -> Result<wire::NodeGetVolumeStatsResponse, Status> {
        let mut client = NodeClient::new(self.channel.clone());
        self.runtime
            .block_on(
                client.node_get_volume_stats(wire::NodeGetVolumeStatsRequest {
                    volume_id: volume.to_owned(),
                    volume_path: path.to_str().expect("UTF-8").to_owned(),
                    ..Default::default()
                }),
            )
            .map(tonic::Response::into_inner)
    }

    /// GetPluginInfo.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn info(&self) -> Result<wire::GetPluginInfoResponse, Status> {
        let mut client = IdentityClient::new(self.channel.clone());
        self.runtime
            .block_on(client.get_plugin_info(wire::GetPluginInfoRequest {}))
            .map(tonic::Response::into_inner)
    }

    /// Probe: whether the plugin calls itself ready.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn probe(&self) -> Result<bool, Status> {
        let mut client = IdentityClient::new(self.channel.clone());
        self.runtime
            .block_on(client.probe(wire::ProbeRequest {}))
            .map(|answer| answer.into_inner().ready == Some(true))
    }

    /// CreateVolume of `parameters`; the new volume.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn create(&self, name: &str, parameters: &[(&str, &str)]) -> Result<wire::Volume, Status> {
        let mut client = ControllerClient::new(self.channel.clone());
        let request = wire::CreateVolumeRequest {
            name: name.to_owned(),
            volume_capabilities: vec![capability(Mode::SingleNodeWriter)],
            parameters: parameters
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Default::default()
        };
        self.runtime
            .block_on(client.create_volume(request))
            .map(|answer| answer.into_inner().volume.expect("a volume in the answer"))
    }

    /// DeleteVolume.
    ///
    /// # Errors
    /// The plugin's status.
    pub fn delete(&self, volume: &str) -> Result<(), Status> {
        let mut client = ControllerClient::new(self.channel.clone());
        self.runtime
            .block_on(client.delete_volume(wire::DeleteVolumeRequest {
                volume_id: volume.to_owned(),
                ..Default::default()
            }))
            .map(|_| ())
    }
}
