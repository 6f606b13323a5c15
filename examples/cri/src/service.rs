//! The gRPC service: what CRI asks for, done by [`Containers`] and by the streaming server.

use std::{process::Stdio, sync::Arc, time::Duration};

use spdy_kube::{
    Exit, Streams,
    cri::{self, PrepareError, Server},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::{
    containers::Containers,
    streams::Target,
    v1::{runtime_service_server::RuntimeService, *},
};

pub(crate) struct Service {
    containers: Arc<Containers>,
    streams: Server<Target>,
}

impl Service {
    pub(crate) fn new(containers: Arc<Containers>, streams: Server<Target>) -> Self {
        Self {
            containers,
            streams,
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn ok<T>(answer: T) -> Answer<T> {
    Ok(Response::new(answer))
}

/// CRI forbids the request, or too many URLs wait.
fn refused(error: PrepareError) -> Status {
    Status::new(Code::from_i32(error.grpc_code()), error.to_string())
}

#[async_trait]
impl RuntimeService for Service {
    // --- streams ---

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let asked = request.into_inner();
        self.containers.process(&asked.container_id)?;
        let prepared = self.streams.prepare_exec(cri::Exec {
            container: asked.container_id,
            command: asked.cmd,
            streams: Streams {
                stdin: asked.stdin,
                stdout: asked.stdout,
                stderr: asked.stderr,
                tty: asked.tty,
            },
        });
        let url = prepared.map_err(refused)?;
        ok(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let asked = request.into_inner();
        self.containers.process(&asked.container_id)?;
        let prepared = self.streams.prepare_attach(cri::Attach {
            container: asked.container_id,
            streams: Streams {
                stdin: asked.stdin,
                stdout: asked.stdout,
                stderr: asked.stderr,
                tty: asked.tty,
            },
        });
        let url = prepared.map_err(refused)?;
        ok(AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let asked = request.into_inner();
        self.containers.sandbox(&asked.pod_sandbox_id)?;
        let prepared = self.streams.prepare_port_forward(cri::PortForward {
            sandbox: asked.pod_sandbox_id,
            ports: asked.port,
        });
        let url = prepared.map_err(refused)?;
        ok(PortForwardResponse { url })
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let asked = request.into_inner();
        self.containers.process(&asked.container_id)?;
        let run = run(&asked.cmd);
        // Without a timeout CRI lets the command run for ever. The client can end its request.
        let answer = match u64::try_from(asked.timeout) {
            Ok(seconds @ 1..) => tokio::time::timeout(Duration::from_secs(seconds), run)
                .await
                .map_err(|_| Status::deadline_exceeded("command runs for too long"))?,
            _ => run.await,
        };
        ok(answer?)
    }

    // --- sandboxes ---

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        let config = request.into_inner().config;
        let config = config.ok_or_else(|| Status::invalid_argument("missing config"))?;
        let pod_sandbox_id = self.containers.run_sandbox(config);
        ok(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.containers
            .stop_sandbox(&request.into_inner().pod_sandbox_id);
        ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.containers
            .remove_sandbox(&request.into_inner().pod_sandbox_id);
        ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let sandbox = self
            .containers
            .sandbox(&request.into_inner().pod_sandbox_id)?;
        let status = PodSandboxStatus {
            id: sandbox.id,
            metadata: sandbox.metadata,
            state: sandbox.state,
            created_at: sandbox.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: "127.0.0.1".to_owned(),
            }),
            labels: sandbox.labels,
            annotations: sandbox.annotations,
        };
        ok(PodSandboxStatusResponse {
            status: Some(status),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let items = self.containers.sandboxes(&filter);
        ok(ListPodSandboxResponse { items })
    }

    // --- containers ---

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let asked = request.into_inner();
        let config = asked.config.unwrap_or_default();
        let container_id = self.containers.create(&asked.pod_sandbox_id, config)?;
        ok(CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        self.containers.start(&request.into_inner().container_id)?;
        ok(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        self.containers.stop(&request.into_inner().container_id);
        ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        self.containers.remove(&request.into_inner().container_id);
        ok(RemoveContainerResponse {})
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let status = self.containers.status(&request.into_inner().container_id)?;
        ok(ContainerStatusResponse {
            status: Some(status),
        })
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let containers = self.containers.list(&filter);
        ok(ListContainersResponse { containers })
    }

    // --- the runtime ---

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        ok(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "spdy-example".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let conditions = ["RuntimeReady", "NetworkReady"].map(|name| RuntimeCondition {
            r#type: name.to_owned(),
            status: true,
        });
        ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: conditions.to_vec(),
            }),
        })
    }
}

/// Runs a command to its end, and keeps the beginning of its outputs.
async fn run(command: &[String]) -> Result<ExecSyncResponse, Status> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| refused(PrepareError::NoCommand))?;
    let failed = |error| Status::unknown(format!("exec: {program:?}: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr, status) =
        tokio::try_join!(beginning(stdout), beginning(stderr), child.wait()).map_err(failed)?;
    Ok(ExecSyncResponse {
        stdout,
        stderr,
        exit_code: Exit::from(status).get().into(),
    })
}

/// Reads an output to its end, and returns the beginning.
async fn beginning(output: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut output) = output {
        (&mut output).take(MOST).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// The most bytes of an output, so that both fit into a message of gRPC, as CRI describes.
const MOST: u64 = 8 * 1024 * 1024 - 4096;
