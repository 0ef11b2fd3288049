//! How the kubelet finds the plugin: a socket in its `plugins_registry` directory, on which the kubelet
//! is the client.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};

/// Generated from `proto/pluginregistration/registration.proto`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated: its documents are in the definition"
)]
pub mod wire {
    tonic::include_proto!("pluginregistration");
}

use wire::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, registration_server,
};

/// Version of the interface that the kubelet asks for.
const VERSION: &str = "1.0.0";

/// Serves the kubelet's questions about the plugin.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Name of the driver.
    pub driver_name: String,
    /// The plugin's own socket.
    pub endpoint: PathBuf,
    /// Woken when the kubelet refuses the plugin; it tries again by itself.
    pub refused: Arc<Notify>,
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.driver_name.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!("the kubelet has registered the plugin");
        } else {
            tracing::error!(error = status.error, "the kubelet refuses the plugin");
            self.refused.notify_one();
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
