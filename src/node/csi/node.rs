//! The Node service: decode, act, encode.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::wire::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest,
    NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, VolumeUsage, node_server,
    node_service_capability::{Rpc, Type, rpc},
    volume_usage::Unit,
};
use super::{Context, request, status};

/// Serves Node.
#[derive(Clone, Debug)]
pub struct Node {
    context: Arc<Context>,
}

impl Node {
    /// Serves Node for the plugin.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl node_server::Node for Node {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let deadline = request::deadline(request.metadata());
        let request = request.into_inner();
        let about = format!("{} at {}", request.volume_id, request.target_path);
        let volumes = Arc::clone(&self.context.volumes);
        let readiness = self.context.readiness.clone();
        self.context
            .call("NodePublishVolume", about, async move {
                readiness
                    .check_node()
                    .map_err(|lack| Status::failed_precondition(lack.to_string()))?;
                let wanted = request::publication(request, volumes.store_id())
                    .map_err(status::of_request)?;
                volumes
                    .publish(wanted, deadline)
                    .await
                    .map_err(status::of_volume)?;
                Ok(NodePublishVolumeResponse {})
            })
            .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let about = format!("{} at {}", request.volume_id, request.target_path);
        let volumes = Arc::clone(&self.context.volumes);
        self.context
            .call("NodeUnpublishVolume", about, async move {
                let handle = request::handle(&request.volume_id, volumes.store_id())
                    .map_err(status::of_request)?;
                let target = request::required("target_path", request.target_path)
                    .map_err(status::of_request)?;
                volumes
                    .unpublish(handle, target.into())
                    .await
                    .map_err(status::of_volume)?;
                Ok(NodeUnpublishVolumeResponse {})
            })
            .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let about = format!("{} at {}", request.volume_id, request.volume_path);
        let volumes = Arc::clone(&self.context.volumes);
        self.context
            .call("NodeGetVolumeStats", about, async move {
                let handle = request::handle(&request.volume_id, volumes.store_id())
                    .map_err(status::of_request)?;
                let path = request::required("volume_path", request.volume_path)
                    .map_err(status::of_request)?;
                let usage = volumes
                    .stats(&handle, path.as_ref())
                    .await
                    .map_err(status::of_volume)?;
                let bytes = VolumeUsage {
                    unit: Unit::Bytes.into(),
                    total: number(usage.bytes.total),
                    used: number(usage.bytes.used),
                    available: number(usage.bytes.available),
                };
                let inodes = VolumeUsage {
                    unit: Unit::Inodes.into(),
                    total: number(usage.inodes.total),
                    used: number(usage.inodes.used),
                    available: number(usage.inodes.available),
                };
                Ok(NodeGetVolumeStatsResponse {
                    usage: vec![bytes, inodes],
                })
            })
            .await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capabilities = [
            rpc::Type::GetVolumeStats,
            rpc::Type::SingleNodeMultiWriter,
            rpc::Type::VolumeMountGroup,
        ]
        .map(|one| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: one.into() })),
        });
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.context.node_name.clone(),
            max_volumes_per_node: self.context.max_volumes,
            accessible_topology: Some(self.context.topology()),
        }))
    }
}

/// The wire counts in signed numbers.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
