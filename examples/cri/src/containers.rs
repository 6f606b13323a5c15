//! Sandboxes and containers, and the processes of containers.

use std::{
    collections::{BTreeMap, HashMap},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use rustix::process::{Pid, Signal, kill_process_group};
use spdy_kube::{BoxError, Exit, Io, Stdout};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    sync::{
        Mutex as AsyncMutex,
        broadcast::{self, error::RecvError},
        oneshot, watch,
    },
};
use tonic::Status;

use crate::v1::{
    Container, ContainerConfig, ContainerFilter, ContainerState, ContainerStatus, PodSandbox,
    PodSandboxConfig, PodSandboxFilter, PodSandboxState,
};

#[derive(Default)]
pub(crate) struct Containers {
    state: Mutex<State>,
    ids: AtomicU64,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, PodSandbox>,
    containers: BTreeMap<String, Entry>,
}

struct Entry {
    sandbox: String,
    config: ContainerConfig,
    created_at: i64,
    process: Option<Arc<Process>>,
}

impl Containers {
    pub(crate) fn run_sandbox(&self, config: PodSandboxConfig) -> String {
        let id = self.new_id('5');
        let sandbox = PodSandbox {
            id: id.clone(),
            metadata: config.metadata,
            state: PodSandboxState::SandboxReady.into(),
            created_at: now(),
            labels: config.labels,
            annotations: config.annotations,
        };
        self.state().sandboxes.insert(id.clone(), sandbox);
        id
    }

    /// Stops a sandbox and its containers. It may be stopped already, or gone.
    pub(crate) fn stop_sandbox(&self, id: &str) {
        let mut state = self.state();
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.set_state(PodSandboxState::SandboxNotready);
        }
        for entry in state
            .containers
            .values()
            .filter(|entry| entry.sandbox == id)
        {
            entry.stop();
        }
    }

    pub(crate) fn remove_sandbox(&self, id: &str) {
        self.stop_sandbox(id);
        let mut state = self.state();
        state.sandboxes.remove(id);
        state.containers.retain(|_, entry| entry.sandbox != id);
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<PodSandbox, Status> {
        let state = self.state();
        let sandbox = state.sandboxes.get(id).cloned();
        sandbox.ok_or_else(|| Status::not_found(format!("sandbox {id} not found")))
    }

    pub(crate) fn sandboxes(&self, filter: &PodSandboxFilter) -> Vec<PodSandbox> {
        let state = self.state();
        let is_wanted = |sandbox: &&PodSandbox| {
            sandbox.id.starts_with(&filter.id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state == sandbox.state)
                && has_all(&sandbox.labels, &filter.label_selector)
        };
        state
            .sandboxes
            .values()
            .filter(is_wanted)
            .cloned()
            .collect()
    }

    pub(crate) fn create(&self, sandbox: &str, config: ContainerConfig) -> Result<String, Status> {
        self.sandbox(sandbox)?;
        let id = self.new_id('c');
        let entry = Entry {
            sandbox: sandbox.to_owned(),
            config,
            created_at: now(),
            process: None,
        };
        self.state().containers.insert(id.clone(), entry);
        Ok(id)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), Status> {
        let mut state = self.state();
        let entry = state
            .containers
            .get_mut(id)
            .ok_or_else(|| no_container(id))?;
        if entry.process.is_some() {
            let why = format!("container {id} was started before");
            return Err(Status::failed_precondition(why));
        }
        let process = Process::start(&entry.config);
        let process =
            process.map_err(|error| Status::internal(format!("container {id}: {error}")))?;
        entry.process = Some(process);
        Ok(())
    }

    /// Stops a container. It may have ended already, or be gone.
    pub(crate) fn stop(&self, id: &str) {
        if let Some(entry) = self.state().containers.get(id) {
            entry.stop();
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.stop(id);
        self.state().containers.remove(id);
    }

    pub(crate) fn stop_all(&self) {
        self.state().containers.values().for_each(Entry::stop);
    }

    pub(crate) fn status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let state = self.state();
        let entry = state.containers.get(id).ok_or_else(|| no_container(id))?;
        Ok(entry.status(id))
    }

    pub(crate) fn list(&self, filter: &ContainerFilter) -> Vec<Container> {
        let state = self.state();
        let all = state
            .containers
            .iter()
            .map(|(id, entry)| entry.container(id));
        let is_wanted = |container: &Container| {
            container.id.starts_with(&filter.id)
                && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state == container.state)
                && has_all(&container.labels, &filter.label_selector)
        };
        all.filter(is_wanted).collect()
    }

    /// Returns the process of a container that is running.
    pub(crate) fn process(&self, id: &str) -> Result<Arc<Process>, Status> {
        let state = self.state();
        let entry = state.containers.get(id).ok_or_else(|| no_container(id))?;
        let process = entry.process.clone();
        process
            .filter(|process| process.end.borrow().is_none())
            .ok_or_else(|| Status::failed_precondition(format!("container {id} is not running")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self, first: char) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{first}{number:012x}")
    }
}

impl Entry {
    fn stop(&self) {
        if let Some(process) = &self.process {
            process.kill();
        }
    }

    fn state(&self) -> ContainerState {
        match &self.process {
            None => ContainerState::ContainerCreated,
            Some(process) if process.end.borrow().is_none() => ContainerState::ContainerRunning,
            Some(_) => ContainerState::ContainerExited,
        }
    }

    fn container(&self, id: &str) -> Container {
        let config = self.config.clone();
        Container {
            id: id.to_owned(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: config.metadata,
            image_ref: config.image.clone().unwrap_or_default().image,
            image: config.image,
            state: self.state().into(),
            created_at: self.created_at,
            labels: config.labels,
            annotations: config.annotations,
        }
    }

    fn status(&self, id: &str) -> ContainerStatus {
        let container = self.container(id);
        let process = self.process.as_ref();
        let end = process.and_then(|process| *process.end.borrow());
        ContainerStatus {
            id: container.id,
            metadata: container.metadata,
            state: container.state,
            created_at: container.created_at,
            started_at: process.map_or(0, |process| process.started_at),
            finished_at: end.map_or(0, |end| end.at),
            exit_code: end.map_or(0, |end| end.exit.get().into()),
            image: container.image,
            image_ref: container.image_ref,
            labels: container.labels,
            annotations: container.annotations,
        }
    }
}

/// The process of a container.
pub(crate) struct Process {
    started_at: i64,
    end: watch::Receiver<Option<End>>,
    /// Kills the process when it is dropped.
    kill: Mutex<Option<oneshot::Sender<()>>>,
    stdin: AsyncMutex<Option<ChildStdin>>,
    outputs: [Pieces; 2],
}

/// The pieces of an output, for those who are attached. It is read nowhere, and subscribed to.
type Pieces = broadcast::Receiver<Vec<u8>>;

#[derive(Clone, Copy)]
struct End {
    exit: Exit,
    at: i64,
}

impl Process {
    fn start(config: &ContainerConfig) -> std::io::Result<Arc<Self>> {
        let mut words = config.command.iter().chain(&config.args);
        let mut command = match words.next() {
            Some(program) => Command::new(program),
            None => Command::new("sh"),
        };
        // Without a command it waits, as the images of most tests do.
        if config.command.is_empty() && config.args.is_empty() {
            command.args(["-c", "exec sleep 1000000"]);
        }
        command.args(words);
        command.envs(config.envs.iter().map(|env| (&env.key, &env.value)));
        if !config.working_dir.is_empty() {
            command.current_dir(&config.working_dir);
        }
        let stdin = match config.stdin {
            true => Stdio::piped(),
            false => Stdio::null(),
        };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let (stdin, outputs) = (
            child.stdin.take(),
            [publish(child.stdout.take()), publish(child.stderr.take())],
        );
        let (told, end) = watch::channel(None);
        let (kill, killed) = oneshot::channel();
        tokio::spawn(watch_over(child, killed, told));
        Ok(Arc::new(Self {
            started_at: now(),
            end,
            kill: Mutex::new(Some(kill)),
            stdin: AsyncMutex::new(stdin),
            outputs,
        }))
    }

    fn kill(&self) {
        self.kill
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Joins the streams of the process until it ends or its client goes.
    pub(crate) async fn attach(&self, mut io: Io) -> Result<(), BoxError> {
        let [stdout, stderr] = self.outputs.each_ref().map(Pieces::resubscribe);
        let (to_stdout, to_stderr) = (io.stdout.take(), io.stderr.take());
        let from = io.stdin.take();
        let input = async {
            if let Some(mut from) = from
                && let Some(to) = &mut *self.stdin.lock().await
            {
                // The input of the container stays open for those who attach later.
                _ = tokio::io::copy(&mut from, to).await;
            }
            std::future::pending::<()>().await;
        };
        let outputs = async { tokio::try_join!(pass(stdout, to_stdout), pass(stderr, to_stderr)) };
        tokio::select! {
            () = input => Ok(()),
            passed = outputs => passed.map(drop),
            () = io.client.gone() => Ok(()),
        }
    }
}

/// Publishes what a process writes.
fn publish(output: Option<impl AsyncRead + Send + Unpin + 'static>) -> Pieces {
    let (to, pieces) = broadcast::channel(PIECES);
    tokio::spawn(async move {
        let mut piece = vec![0; PIECE];
        if let Some(mut from) = output {
            while let Ok(length @ 1..) = from.read(&mut piece).await {
                // An error means that nothing is attached.
                _ = to.send(piece[..length].to_vec());
            }
        }
    });
    pieces
}

/// Passes an output on until the process has closed it.
async fn pass(mut from: Pieces, to: Option<Stdout>) -> Result<(), BoxError> {
    let Some(mut to) = to else {
        return Ok(());
    };
    loop {
        match from.recv().await {
            Ok(piece) => to.write_all(&piece).await?,
            Err(RecvError::Closed) => return Ok(to.shutdown().await?),
            // A client that reads slowly does not hold up the container.
            Err(RecvError::Lagged(_)) => return Err("client reads too slowly".into()),
        }
    }
}

/// Waits for the end of a process, or kills it with those that it has started.
async fn watch_over(
    mut child: Child,
    killed: oneshot::Receiver<()>,
    told: watch::Sender<Option<End>>,
) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let status = tokio::select! {
        status = child.wait() => status,
        _ = killed => {
            if let Some(group) = id {
                // It may have ended by itself.
                _ = kill_process_group(group, Signal::KILL);
            }
            child.wait().await
        }
    };
    let exit = status.map_or(Exit::code(255), Exit::from);
    told.send_replace(Some(End { exit, at: now() }));
}

fn no_container(id: &str) -> Status {
    Status::not_found(format!("container {id} not found"))
}

/// Returns whether labels are as a selector wants them.
fn has_all(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

/// Returns the time in nanoseconds, as CRI wants it.
fn now() -> i64 {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// How many pieces of an output wait for someone who is attached.
const PIECES: usize = 64;

/// The longest piece, in bytes.
const PIECE: usize = 32 * 1024;
