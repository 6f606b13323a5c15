//! Images, of which there is every one: they are only names.

use tonic::{Request, Response, Status, async_trait};

use crate::v1::{
    Image, ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest,
    ListImagesResponse, PullImageRequest, PullImageResponse, image_service_server::ImageService,
};

pub(crate) struct Images;

fn image(spec: Option<ImageSpec>) -> Image {
    let name = spec.unwrap_or_default().image;
    Image {
        id: name.clone(),
        repo_tags: vec![name],
        size: 1,
    }
}

#[async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        Ok(Response::new(ListImagesResponse::default()))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let image = Some(image(request.into_inner().image));
        Ok(Response::new(ImageStatusResponse { image }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let image_ref = image(request.into_inner().image).id;
        Ok(Response::new(PullImageResponse { image_ref }))
    }
}
