//! The Controller service, for the volumes of this node: made, deleted, listed here and nowhere else.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::request::{self, RequestError};
use super::wire::{
    self, ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerServiceCapability, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, ListVolumesRequest,
    ListVolumesResponse, ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse,
    controller_server,
    controller_service_capability::{Rpc, Type, rpc},
    list_volumes_response::Entry,
    validate_volume_capabilities_response::Confirmed,
};
use super::{Context, status};
use crate::node::volume::Volume;

/// Serves Controller.
#[derive(Clone, Debug)]
pub struct Controller {
    context: Arc<Context>,
}

impl Controller {
    /// Serves Controller for the plugin.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

fn to_wire(volume: &Volume, topology: wire::Topology) -> wire::Volume {
    wire::Volume {
        capacity_bytes: volume.definition.capacity,
        volume_id: volume.handle.to_string(),
        volume_context: request::context_of(&volume.definition),
        content_source: None,
        accessible_topology: vec![topology],
    }
}

#[tonic::async_trait]
impl controller_server::Controller for Controller {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let deadline = request::deadline(request.metadata());
        let request = request.into_inner();
        let about = request.name.clone();
        let context = Arc::clone(&self.context);
        self.context
            .call("CreateVolume", about, async move {
                let topology = context.topology();
                if !request::reaches(request.accessibility_requirements.as_ref(), &topology) {
                    return Err(Status::resource_exhausted(format!(
                        "volume {}: node {} is not where the volume must be",
                        request.name, context.node_name
                    )));
                }
                // The code by which csi-provisioner lets the scheduler choose another node.
                context
                    .readiness
                    .check_node()
                    .map_err(|lack| Status::resource_exhausted(lack.to_string()))?;
                let wanted = request::creation(request).map_err(status::of_request)?;
                let volume = context
                    .volumes
                    .create(wanted, deadline)
                    .await
                    .map_err(status::of_volume)?;
                Ok(CreateVolumeResponse {
                    volume: Some(to_wire(&volume, topology)),
                })
            })
            .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        let about = request.volume_id.clone();
        let volumes = Arc::clone(&self.context.volumes);
        self.context
            .call("DeleteVolume", about, async move {
                let handle = request::handle(&request.volume_id, volumes.store_id())
                    .map_err(status::of_request)?;
                volumes.delete(handle).await.map_err(status::of_volume)?;
                Ok(DeleteVolumeResponse {})
            })
            .await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        let about = request.volume_id.clone();
        let volumes = Arc::clone(&self.context.volumes);
        self.context
            .call("ValidateVolumeCapabilities", about, async move {
                let handle = request::handle(&request.volume_id, volumes.store_id())
                    .map_err(status::of_request)?;
                if request.volume_capabilities.is_empty() {
                    return Err(status::of_request(RequestError::Missing {
                        field: "volume_capabilities",
                    }));
                }
                let volume = volumes.find(&handle).await.map_err(status::of_volume)?;
                let refusal = request
                    .volume_capabilities
                    .iter()
                    .find_map(|capability| request::capability(Some(capability)).err())
                    .or_else(|| request::parameters(&request.parameters).err())
                    .map(|error| error.to_string())
                    .or_else(|| {
                        let context = request::context_of(&volume.definition);
                        (!request.volume_context.is_empty()
                            && !request::is_context(&request.volume_context, &context))
                        .then(|| "the volume has another context".to_owned())
                    });
                Ok(match refusal {
                    Some(message) => ValidateVolumeCapabilitiesResponse {
                        confirmed: None,
                        message,
                    },
                    None => ValidateVolumeCapabilitiesResponse {
                        confirmed: Some(Confirmed {
                            volume_context: request.volume_context,
                            volume_capabilities: request.volume_capabilities,
                            parameters: request.parameters,
                            mutable_parameters: request.mutable_parameters,
                        }),
                        message: String::new(),
                    },
                })
            })
            .await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let context = Arc::clone(&self.context);
        self.context
            .call("ListVolumes", String::new(), async move {
                let page = request::page(&request, context.volumes.store_id())?;
                let (volumes, next) = context
                    .volumes
                    .list(page.start.as_deref(), page.limit)
                    .await
                    .map_err(status::of_volume)?;
                let entries = volumes
                    .iter()
                    .map(|volume| Entry {
                        volume: Some(to_wire(volume, context.topology())),
                        status: None,
                    })
                    .collect();
                Ok(ListVolumesResponse {
                    entries,
                    next_token: next.map(|handle| handle.to_string()).unwrap_or_default(),
                })
            })
            .await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        let context = Arc::clone(&self.context);
        self.context
            .call("GetCapacity", String::new(), async move {
                request::parameters(&request.parameters).map_err(status::of_request)?;
                let usable = request
                    .volume_capabilities
                    .iter()
                    .all(|capability| request::capability(Some(capability)).is_ok());
                let here = request
                    .accessible_topology
                    .as_ref()
                    .is_none_or(|place| request::is_within(&context.topology(), place));
                let available = if usable && here && context.readiness.check_node().is_ok() {
                    context.volumes.room().await.map_err(status::of_volume)?
                } else {
                    0
                };
                Ok(GetCapacityResponse {
                    available_capacity: i64::try_from(available).unwrap_or(i64::MAX),
                    maximum_volume_size: None,
                    minimum_volume_size: None,
                })
            })
            .await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capabilities = [
            rpc::Type::CreateDeleteVolume,
            rpc::Type::ListVolumes,
            rpc::Type::GetCapacity,
            rpc::Type::SingleNodeMultiWriter,
        ]
        .map(|one| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: one.into() })),
        });
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }
}
