//! The Identity service: who we are, what we offer, are we ready.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Context;
use super::wire::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse, identity_server,
    plugin_capability::{Service, Type, service},
};

/// Serves Identity.
#[derive(Clone, Debug)]
pub struct Identity {
    context: Arc<Context>,
}

impl Identity {
    /// Serves Identity for the plugin.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.context.driver_name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [(
                "store".to_owned(),
                self.context.volumes.store_id().to_string(),
            )]
            .into(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let capabilities = [
            service::Type::ControllerService,
            service::Type::VolumeAccessibilityConstraints,
        ]
        .map(|one| PluginCapability {
            r#type: Some(Type::Service(Service { r#type: one.into() })),
        });
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    /// Answers from memory: a probe must not wait for the store, which another tool may hold. A full pool is
    /// no reason to say no: csi-provisioner waits for a yes, and then deletes.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let readiness = &self.context.readiness;
        let ready = readiness.check().is_ok() && readiness.check_node().is_ok();
        Ok(Response::new(ProbeResponse { ready: Some(ready) }))
    }
}
