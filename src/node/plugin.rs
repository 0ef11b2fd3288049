//! The plugin's life: built, recovered, started, drained. Every stage is a value, so that tests can
//! stop at any of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::chain;
use super::checks::{Needs, Problem};
use super::config::{Config, ConfigError};
use super::csi::Context;
use super::csi::caller::Caller;
use super::csi::controller::Controller;
use super::csi::identity::Identity;
use super::csi::node::Node;
use super::csi::registration::Registration;
use super::csi::registration::wire::registration_server::RegistrationServer;
use super::csi::socket::{self, Socket, SocketError};
use super::csi::wire::controller_server::ControllerServer;
use super::csi::wire::identity_server::IdentityServer;
use super::csi::wire::node_server::NodeServer;
use super::front::{Front, LOOK_PAUSE, until};
use super::lanes::Lanes;
use super::upkeep::Upkeep;
use super::volume::images::Images;
use super::volume::mounts::{Kernel, Mounts};
use super::volume::{self, Drained, Parts, Recovery, Volumes};
use crate::oci::Transport;
use crate::oci::pull::Puller;
use crate::store::{self, Store};
use crate::sys::{self, record_lock::RecordLock};

/// Threads that wait for sockets and timers: hardly any work is done on them.
const WORKERS: usize = 2;
const STACK: usize = 512 * 1024;
/// The kubelet's directory for the sockets of plugins that register themselves.
const REGISTRY: &str = "plugins_registry";

/// The plugin can't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be opened.
    #[error("open the store")]
    Store(#[source] store::Error),
    /// Another plugin serves it.
    #[error("another `strata node` serves this store: two would delete each other's volumes")]
    StoreTaken,
    /// The volumes can't be found.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A socket can't be served.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system refuses.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// A server ended.
    #[error("serve {what}")]
    Serve {
        /// What was served.
        what: &'static str,
        /// Why it ended.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A plugin that is built and serves nothing yet.
#[derive(Debug)]
pub struct Plugin {
    config: Config,
    context: Arc<Context>,
    store: Store,
    front: Front,
}

impl Plugin {
    /// Builds the plugin on an open store, behind its front. Within a runtime, on which it then works.
    ///
    /// # Errors
    /// When the configuration can't be used, or a directory can't be opened.
    pub fn build(
        config: Config,
        store: Store,
        mounts: Arc<dyn Mounts>,
        front: Front,
    ) -> Result<Self, Error> {
        config.check()?;
        let metrics = Arc::clone(&front.metrics);
        let lanes = Lanes::new(config.lanes);
        metrics.watch_lanes(lanes.clone());
        let puller = Puller::new(
            store.clone(),
            tokio::runtime::Handle::current(),
            Transport::new(config.registry.clone()),
            config.pulls.clone(),
        );
        metrics.watch_pulls(puller.waiting());
        let volumes = Volumes::new(Parts {
            store: store.clone(),
            mounts,
            kubelet_dir: config.kubelet_dir.clone(),
            images: Images::new(puller, lanes.clone(), Arc::clone(&metrics))
                .with_logins(config.logins.clone()),
            metrics: Arc::clone(&metrics),
            events: Arc::new(front.teller.clone()),
            lanes,
        })?;
        let context = Arc::new(Context {
            driver_name: config.driver_name.clone(),
            node_name: config.node_name.clone(),
            max_volumes: config.max_volumes,
            volumes: Arc::new(volumes),
            metrics,
            readiness: front.readiness.clone(),
        });
        Ok(Self {
            config,
            context,
            store,
            front,
        })
    }

    /// What the services share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Finds what is published already.
    ///
    /// # Errors
    /// When the store or the mount table can't be read.
    pub async fn recover(&self) -> Result<Recovery, Error> {
        Ok(self.context.volumes.recover().await?)
    }

    /// Serves, and is ready from then on.
    ///
    /// # Errors
    /// When a socket can't be served.
    pub async fn start(self) -> Result<Running, Error> {
        let upkeep = Upkeep {
            context: Arc::clone(&self.context),
            bound: self.front.bound,
            teller: self.front.teller,
        };
        let stopped = self.front.stop.subscribe();
        let endpoint = socket::path_of(&self.config.endpoint)?;
        let mut running = Running {
            context: Arc::clone(&self.context),
            grace: self.config.grace,
            stop: self.front.stop,
            servers: self.front.servers,
            sockets: Vec::new(),
        };
        let (socket, listener) = Socket::bind(&endpoint)?;
        running.sockets.push(socket);
        let context = &self.context;
        let services = Server::builder()
            .add_service(IdentityServer::new(Identity::new(Arc::clone(context))))
            .add_service(ControllerServer::new(Controller::new(Arc::clone(context))))
            .add_service(NodeServer::new(Node::new(Arc::clone(context))));
        running
            .servers
            .push(serve("the CSI socket", services, listener, stopped.clone()));
        self.context.readiness.open();
        if self.config.is_registered {
            upkeep.prepare_registration().await;
            let refused = Arc::new(Notify::new());
            let registration = Registration {
                driver_name: self.config.driver_name.clone(),
                endpoint,
                refused: Arc::clone(&refused),
            };
            register(&self.config, registration, &mut running, stopped.clone())?;
            tokio::spawn(upkeep.clone().answer_refusals(refused, stopped.clone()));
        }
        let needs = needs(&self.config, self.store.config());
        tokio::spawn(upkeep.clone().look(needs, stopped.clone()));
        tokio::spawn(upkeep.sweep(stopped));
        let store = self.store;
        // What dead processes left in the staging area is nobody's hurry.
        let lane = self.context.volumes.lanes().records.clone();
        tokio::spawn(async move {
            match lane.run(move || store.remove_leftovers()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = %chain(&error), "leftovers stay"),
                Err(error) => tracing::warn!(error = %chain(&error), "leftovers stay"),
            }
        });
        Ok(running)
    }
}

/// Serves the kubelet's questions about the plugin, where the kubelet looks for plugins.
fn register(
    config: &Config,
    registration: Registration,
    running: &mut Running,
    stopped: watch::Receiver<bool>,
) -> Result<(), Error> {
    let kubelet = sys::Dir::open(&config.kubelet_dir)?;
    if kubelet.find_dir(REGISTRY)?.is_none() {
        tracing::info!("the kubelet has no {REGISTRY}: the plugin does not register itself");
        return Ok(());
    }
    let name = format!("{}-reg.sock", config.driver_name);
    let path = config.kubelet_dir.join(REGISTRY).join(name);
    let (socket, listener) = Socket::bind(&path)?;
    running.sockets.push(socket);
    let services = Server::builder().add_service(RegistrationServer::new(registration));
    running.servers.push(serve(
        "the registration socket",
        services,
        listener,
        stopped,
    ));
    Ok(())
}

/// Opens the store and keeps it from other plugins. In a pod, what hinders that is one more thing that the node lacks:
/// readiness and events say it, while a container that ends says it in its log. Elsewhere whoever started it reads the error.
fn open(
    config: &store::Config,
    is_in_pod: bool,
) -> Result<Result<(Store, RecordLock), Error>, Problem> {
    let opened = Store::open(config.clone())
        .map_err(Error::Store)
        .and_then(|store| match store.reserve_for_plugin() {
            Ok(Some(reserved)) => Ok((store, reserved)),
            Ok(None) => Err(Error::StoreTaken),
            Err(error) => Err(Error::Store(error)),
        });
    match opened {
        Err(error) if is_in_pod => Err(Problem {
            what: chain(&error),
            remedy: "put that right; the plugin then goes on by itself",
            is_fatal: true,
        }),
        opened => Ok(opened),
    }
}

/// What the node must have for this plugin.
fn needs(config: &Config, store: &store::Config) -> Needs {
    Needs::of(store, &config.kubelet_dir, config.api.is_some())
}

pub(super) fn failed(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Serve {
        what,
        source: Box::new(source),
    }
}

fn serve(
    what: &'static str,
    services: Router,
    listener: tokio::net::UnixListener,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<Result<(), Error>> {
    let callers = UnixListenerStream::new(listener).map(|accepted| accepted.map(Caller::new));
    tokio::spawn(async move {
        services
            .serve_with_incoming_shutdown(callers, until(stopped))
            .await
            .map_err(|error| failed(what, error))
    })
}

/// A plugin that serves.
#[derive(Debug)]
pub struct Running {
    context: Arc<Context>,
    grace: Duration,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<Result<(), Error>>>,
    sockets: Vec<Socket>,
}

impl Running {
    /// What the services share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits for a server that ends by itself, which none should.
    async fn failed(&mut self) -> Error {
        loop {
            for server in &mut self.servers {
                if !server.is_finished() {
                    continue;
                }
                let what = "the plugin";
                return match server.await {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => failed(what, std::io::Error::other("a server ended early")),
                    Err(error) => failed(what, error),
                };
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Takes no more calls, lets those that run come to their end within the grace, and removes the
    /// sockets. What is published stays so.
    pub async fn drain(self) {
        self.context.readiness.close();
        self.stop.send_replace(true);
        let end = Instant::now() + self.grace;
        // Calls whose callers hung up run on; the servers know nothing of them.
        while self.context.metrics.all_calls_in_flight() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(self.sockets);
        for server in self.servers {
            let rest = end.saturating_duration_since(Instant::now());
            // An idle caller may keep its connection open; it is not waited for long.
            let rest = rest.min(Duration::from_millis(200));
            if let Ok(Ok(Err(error))) = tokio::time::timeout(rest, server).await {
                tracing::warn!(error = %chain(&error), "a server failed");
            }
        }
    }
}

/// Runs the plugin on the store of `store_config` until the process is asked to end.
///
/// # Errors
/// When it can't start, or a server fails.
pub fn run(config: Config, store_config: store::Config) -> Result<(), Error> {
    run_until(config, store_config, async {
        wait_for_signal().await.unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "signals can't be had");
            End::Plugin
        })
    })
}

/// What ends when the plugin is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The plugin alone: pods go on.
    Plugin,
    /// The node goes down.
    Node,
}

pub(super) async fn wait_for_signal() -> std::io::Result<End> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut power = signal(SignalKind::from_raw(libc::SIGPWR))?;
    Ok(tokio::select! {
        _ = terminate.recv() => End::Plugin,
        _ = interrupt.recv() => End::Plugin,
        _ = power.recv() => End::Node,
    })
}

/// The node goes down: what inline volumes hold is to be there again afterwards.
async fn save(volumes: &Arc<Volumes>) {
    match volumes.drain().await {
        Ok(Drained { drained, left }) => tracing::info!(drained, left, "inline volumes are saved"),
        Err(error) => tracing::error!(error = %chain(&error), "inline volumes are not saved"),
    }
}

/// As [`run`], until `shutdown` ends. Makes a runtime of its own.
///
/// # Errors
/// When it can't start, or a server fails.
pub fn run_until(
    config: Config,
    store_config: store::Config,
    shutdown: impl Future<Output = End> + Send,
) -> Result<(), Error> {
    let start = Instant::now();
    sys::memory::keep_little();
    config.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(4)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(|error| failed("the plugin", error))?;
    let result = runtime.block_on(async {
        tokio::pin!(shutdown);
        let front = Front::open(&config).await?;
        let needs = needs(&config, &store_config);
        let is_in_pod = config.api.is_some();
        let (store, _reserved) = tokio::select! {
            opened = front.wait_for_node(&needs, LOOK_PAUSE, move || open(&store_config, is_in_pod)) => opened?,
            // Nothing is published by this process yet.
            _ = &mut shutdown => return Ok(()),
        };
        let plugin = Plugin::build(config, store, Arc::new(Kernel), front)?;
        let recovery = plugin.recover().await?;
        let endpoint = plugin.config.endpoint.clone();
        let shutdown_file = plugin.config.shutdown_file.clone();
        let mut running = plugin.start().await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            endpoint,
            store = running.context.volumes.store_id().as_str(),
            volumes = recovery.volumes,
            targets = recovery.targets,
            removed = recovery.removed,
            milliseconds = start.elapsed().as_micros() as f64 / 1000.0,
            "ready"
        );
        let result = tokio::select! {
            end = shutdown => Ok(end),
            error = running.failed() => Err(error),
        };
        let says_node = shutdown_file.is_some_and(|file| sys::File::open(file).is_ok());
        let end = match &result {
            Ok(End::Plugin) if says_node => End::Node,
            Ok(end) => *end,
            Err(_) => End::Plugin,
        };
        tracing::info!(?end, "shutting down");
        let volumes = Arc::clone(&running.context.volumes);
        running.drain().await;
        if end == End::Node {
            save(&volumes).await;
        }
        result.map(drop)
    });
    // Pulls that go on are cut off; the next start removes what they staged.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}
