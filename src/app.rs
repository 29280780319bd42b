//! The composition root: the only place that names concrete stores and engines.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{self, Autodetect, Planner},
    config::{Config, Loaded},
    conversation::{ConversationStore, KeyedNames, Layout, upgrade},
    descriptors,
    edge::{self, Addresses, Capacity, HeaderPolicy, Server},
    engine::{DriverConfig, Engine, Supervisor, driver, sweep},
    error::{Error, Reason, Result},
    files::{Pool, create_private_directory},
    job::{AgentWorker, DirectoryService, JobService, NotReadyCause},
    journal::{self, Catalogue, EmbeddedStore, EventLog, Journal, JournalParts, MemoryStore},
    llm,
    logging::LogFilter,
    mcp::{AgentTools, ExternalServers, InProcessClient, McpHandler},
    operators::{OperatorSocket, Reloadable, Reloader},
    principal::{OwnersOnly, Policy, Principal},
    secret::{Secret, masked_url},
    task::Group,
    tool::Toolbox,
};

/// The last part of the grace period, reserved for jobs and processes that did not stop in time.
const LAST_RESORT: Duration = Duration::from_millis(700);
/// The interval of the engine's file checks, and the delay before an engine that failed to start is tried again.
const ENGINE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const ENGINE_START_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time that storing the last events may take at shutdown.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The gateway's components without the network listeners.
pub struct Core {
    /// The job service, which the doors and the command line call.
    pub service: JobService,
    /// The directory service, for requests of the doors that are not jobs.
    pub directory_service: DirectoryService,
    supervisor: Supervisor,
    journal: Journal,
    kill_grace: Duration,
}

impl Core {
    /// Builds the store, the guardian, the engine and the job service, and recovers the jobs that the previous process left
    /// unfinished.
    ///
    /// # Errors
    /// Returns what could not be opened or started, with a message that says what to do about it.
    pub async fn build(config: &Config) -> Result<Self> {
        let data_directory = std::path::absolute(&config.storage.path)
            .map_err(|error| Error::new(Reason::Misconfigured, format!("storage.path: {error}")))?;
        require_directory("storage.path", &data_directory)?;
        // Raised before anything that counts towards the limit is opened: recovery may reopen as many jobs as the previous
        // process had.
        descriptors::raise_limit();
        let (catalogue, events): (Arc<dyn Catalogue>, Arc<dyn EventLog>) = match config.storage.kind {
            journal::StoreKind::Memory => {
                let store = Arc::new(MemoryStore::default());
                (store.clone(), store)
            }
            journal::StoreKind::Embedded => {
                let store = EmbeddedStore::open(&data_directory, config.storage.durability)?;
                // Only the holder of the store's lock may kill the processes that an earlier gateway left running.
                let killed = sweep(&data_directory).await;
                if killed > 0 {
                    tracing::warn!(killed, "processes of an earlier gateway were ended");
                }
                let store = Arc::new(store);
                (store.clone(), store)
            }
        };
        let policy: Arc<dyn Policy> = Arc::new(OwnersOnly);
        let unusable = |error: std::io::Error| {
            let message = format!("{}: {error}", data_directory.display());
            Error::new(Reason::StoreUnavailable, message)
        };
        let names = KeyedNames::open(&data_directory).map_err(unusable)?;
        // Only the holder of the store's lock may change the files in the data directory.
        if config.storage.kind.locks_data_directory() {
            upgrade(&data_directory, &names).map_err(unusable)?;
        }
        let own_program = own_program()?;
        let engine = Engine::configured(&config.conductor, &own_program)
            .map_err(|message| Error::new(Reason::Misconfigured, message))?;
        let guardian = vec![own_program, "guardian".to_owned()];
        let supervisor = Supervisor::start_guardian(guardian, Group::new("supervisor")).await?;
        let max_tail_bytes = config.jobs.tail_bytes as usize;
        let max_log_bytes = config.jobs.log_bytes();
        let parts = JournalParts { catalogue, events, policy: policy.clone(), max_tail_bytes, max_log_bytes };
        let (journal, damage) = Journal::open(parts).await?;
        for damage in &damage {
            tracing::error!(%damage, "the store is damaged; what is readable goes on, the originals are kept in its directory `damaged`");
        }
        let thinking = ModelSelection::choose(&config.agent).await?;
        // Without a lock a second gateway may use the same directory; the process id keeps each from
        // killing the other's processes.
        let mut home = data_directory.to_string_lossy().into_owned();
        if !config.storage.kind.locks_data_directory() {
            home = format!("{home}#{}", std::process::id());
        }
        let pool = Pool::default();
        let driver = driver(DriverConfig {
            engine: engine.clone(),
            limits: config.conductor.clone(),
            data_directory: data_directory.clone(),
            home: home.clone(),
            model_environment: thinking.for_engine(),
            pool: pool.clone(),
            supervisor: supervisor.clone(),
        })?;
        driver.prepare().await?;
        let layout = Layout { data_directory: data_directory.clone(), names };
        let conversations = ConversationStore::new(layout, config.conversations.clone(), pool.clone());
        let limits = config.conductor.clone();
        let toolbox = Toolbox::new((engine, driver), limits, conversations, pool, policy);
        let planner = thinking.planner(config, &toolbox, &supervisor, (&home, &data_directory)).await?;
        let planner = Arc::new(planner);
        let worker = Arc::new(AgentWorker { toolbox: toolbox.clone(), planner: planner.clone() });
        let service = JobService::start(config.jobs.clone(), journal.clone(), worker).await;
        let directory_service = DirectoryService::new(service.clone(), toolbox, planner);
        if config.agent.autodetect == Autodetect::Offer && directory_service.planner().model.is_none() {
            let directory_service = directory_service.clone();
            // The task only probes, so it needs no orderly stop and is dropped with the runtime.
            Group::new("background")
                .spawn("detect_models", async move { offer_local_models(&directory_service).await });
        }
        let kill_grace = Duration::from_secs(config.conductor.kill_grace_seconds.into());
        Ok(Self { service, directory_service, supervisor, journal, kill_grace })
    }

    /// Returns the handler that serves the tools to MCP clients; each of their calls becomes a job.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub fn mcp_handler(&self) -> Result<McpHandler> {
        McpHandler::for_outside(self.directory_service.toolbox().clone(), Arc::new(self.service.clone()))
    }

    /// Returns the handler that serves the tools to one MCP client on standard input and output, as `caller`.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub fn mcp_handler_for_streams(&self, caller: Principal) -> Result<McpHandler> {
        McpHandler::for_streams(
            self.directory_service.toolbox().clone(),
            Arc::new(self.service.clone()),
            caller,
        )
    }

    /// Shuts down in the order of docs/architecture.md: jobs, engines, streams (by `close_streams`), last events, the store.
    /// Jobs and engines end within `grace`; closing the streams and at most `FLUSH_TIME` for the last events come after that.
    pub async fn shut_down(self, grace: Duration, close_streams: impl Future<Output = ()>) {
        let stop_time = (self.kill_grace + LAST_RESORT).min(grace);
        let mut is_over = self.service.finish_running(grace.saturating_sub(stop_time)).await;
        if !is_over {
            is_over = self.service.interrupt_running(stop_time.saturating_sub(LAST_RESORT)).await;
        }
        self.directory_service.planner().tools.close();
        // The guardian kills every process that is left, which also ends every wait for one.
        self.supervisor.close().await;
        if !is_over && !self.service.interrupt_running(LAST_RESORT).await {
            tracing::error!(tasks = ?self.service.running_tasks(), "jobs could not be ended; the next start ends them");
        }
        self.service.close_streams();
        close_streams.await;
        if !self.journal.close(if is_over { FLUSH_TIME } else { LAST_RESORT }).await {
            tracing::debug!("logs of unfinished jobs were closed as they are");
        }
    }
}

/// The chosen model, and the model servers that were detected for the choice.
struct ModelSelection {
    choice: llm::ModelChoice,
    detected: Vec<llm::DetectedServer>,
}

impl ModelSelection {
    async fn choose(config: &agent::AgentConfig) -> Result<Self> {
        let detected = match config.autodetect {
            Autodetect::Use => llm::detect().await,
            Autodetect::Off | Autodetect::Offer => Vec::new(),
        };
        let wrong = |message: String| Error::new(Reason::InvalidArgument, message);
        let wanted = config.wanted().map_err(wrong)?;
        let choice = llm::choose(&wanted, |name| std::env::var(name).ok(), &detected).map_err(wrong)?;
        tracing::info!(
            model = choice.selected.as_ref().map(|model| &*model.model),
            why = choice.why,
            "commands are planned"
        );
        Ok(Self { choice, detected })
    }

    /// Returns the environment variable through which agents of the bundled engine reach the model; empty for a real engine,
    /// which brings its own configuration.
    fn for_engine(&self) -> BTreeMap<String, Secret> {
        let selected = self.choice.selected.as_ref();
        let variable = selected.and_then(|selected| serde_json::to_string(selected).ok());
        variable.map(|json| (llm::MODEL_VARIABLE.to_owned(), Secret::from(json))).into_iter().collect()
    }

    async fn planner(
        self,
        config: &Config,
        toolbox: &Toolbox,
        supervisor: &Supervisor,
        home: (&str, &Path),
    ) -> Result<Planner> {
        let model = self.choice.selected.as_ref().map(llm::connect).transpose();
        let model = model.map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        let own = InProcessClient::connect(McpHandler::for_agent(toolbox.clone())?).await?;
        let outside = ExternalServers::connect(&config.agent.mcp_servers, supervisor, home);
        Ok(Planner {
            model,
            why: self.choice.why,
            tools: AgentTools::new(own, outside),
            config: config.agent.clone(),
            checks: crate::files::Pool::default(),
            detected: self.detected.into(),
        })
    }
}

/// Probes this machine for model servers, so that `/health` can list them.
async fn offer_local_models(directory_service: &DirectoryService) {
    let found = llm::detect().await;
    for server in &found {
        tracing::info!(
            base_url = masked_url(&server.base_url), provider = server.provider.name(), models = ?server.models,
            "a model server runs here; name it in agent.provider and agent.model to use it"
        );
    }
    directory_service.planner().set_detected(found);
}

/// Keeps the engine's readiness condition up to date: checks its files at a short interval, starts it once, and starts it
/// again only while that fails.
async fn check_engine(service: JobService, toolbox: Toolbox, stop: CancellationToken) {
    tokio::select! {
        // Dropping the check at any point is safe, because a process that it started ends with it.
        () = check_engine_for_ever(service, toolbox) => {}
        () = stop.cancelled() => {}
    }
}

async fn check_engine_for_ever(service: JobService, toolbox: Toolbox) {
    let mut start_problem = toolbox.driver().start_problem().await;
    let mut started_at = tokio::time::Instant::now();
    loop {
        if start_problem.is_some() && started_at.elapsed() >= ENGINE_START_INTERVAL {
            start_problem = toolbox.driver().start_problem().await;
            started_at = tokio::time::Instant::now();
        }
        let problem = toolbox.driver().problem().await.or_else(|| start_problem.clone());
        service.set_condition(NotReadyCause::Engine, problem);
        tokio::time::sleep(ENGINE_CHECK_INTERVAL).await;
    }
}

fn own_program() -> Result<String> {
    let path = std::env::current_exe().map_err(Error::internal)?;
    // An upgrade may have replaced the executable of this running process; the kernel still has the original file.
    let path = if path.exists() { path } else { "/proc/self/exe".into() };
    Ok(path.to_string_lossy().into_owned())
}

/// The running gateway, with its listeners open.
pub struct App {
    core: Core,
    servers: Vec<tokio::task::JoinHandle<()>>,
    stop: CancellationToken,
    addresses: Addresses,
    delay: Duration,
    grace: Duration,
    group: Group,
    data_root: PathBuf,
}

impl App {
    /// Builds everything and starts serving. The MCP port is served first, because the API port tells clients its address.
    ///
    /// # Errors
    /// As [`Core::build`]; [`Reason::Unreachable`] when an address cannot be bound.
    pub async fn start(config: &Config) -> Result<Self> {
        let server = &config.server;
        // Bound first, so that a port in use is reported before recovery starts; nothing is served until everything is ready.
        let listener = bind(config, "server.port", server.port).await?;
        let mcp_listener = match server.mcp_port {
            Some(port) => Some(bind(config, "server.mcp_port", port).await?),
            None => None,
        };
        let addresses = Addresses {
            api: listener.local_addr().map_err(Error::internal)?,
            mcp: mcp_listener.as_ref().map(TcpListener::local_addr).transpose().map_err(Error::internal)?,
        };
        let core = Core::build(config).await?;
        let capacity = Capacity::of(server);
        let stop = CancellationToken::new();
        let group = Group::new("server");
        let mut servers = Vec::new();
        if let Some(listener) = mcp_listener {
            let handler = Arc::new(core.mcp_handler()?);
            let doors = edge::mcp::router(handler, server, stop.clone(), &group);
            let mcp = Server::new(listener, server, &config.auth, doors, HeaderPolicy::Mcp, &capacity)
                .map_err(Error::internal)?;
            servers.push(group.spawn("mcp_listener", mcp.serve(stop.clone())));
        }
        let (conversations, stopping) =
            (core.directory_service.toolbox().conversations().clone(), stop.clone());
        group.spawn("conversations", async move { conversations.expire(stopping).await });
        group.spawn(
            "check_engine",
            check_engine(core.service.clone(), core.directory_service.toolbox().clone(), stop.clone()),
        );
        let doors = edge::doors(&core.service, &core.directory_service, server, addresses);
        let api = Server::new(listener, server, &config.auth, doors, HeaderPolicy::Api, &capacity)
            .map_err(Error::internal)?;
        servers.push(group.spawn("listener", api.serve(stop.clone())));
        Ok(Self {
            core,
            servers,
            stop,
            addresses,
            delay: Duration::from_secs(server.shutdown_delay_seconds.into()),
            grace: Duration::from_secs(server.shutdown_grace_seconds.into()),
            group,
            data_root: config.storage.path.clone(),
        })
    }

    /// Returns a reloader of this gateway's configuration, and answers operators on the socket in its data root until it shuts
    /// down. `load` reads the sources of `loaded` again.
    pub(crate) fn reloader(
        &self,
        loaded: Loaded,
        load: impl Fn() -> Result<Loaded> + Send + Sync + 'static,
        log: LogFilter,
    ) -> Reloader {
        let parts = Reloadable {
            log,
            service: self.core.service.clone(),
            conversations: self.core.directory_service.toolbox().conversations().clone(),
        };
        let reloader = Reloader::new((loaded.config, loaded.explained), load, parts);
        match OperatorSocket::bind(&self.data_root) {
            Ok(socket) => {
                self.group.spawn("operators", socket.serve(reloader.clone(), self.stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "there is no socket for operators; only the signal HUP reloads the configuration");
            }
        }
        reloader
    }

    /// Returns the addresses of the two listeners.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Shuts the gateway down in order: reports "not ready", waits the shutdown delay, then runs [`Core::shut_down`] with the
    /// grace period.
    pub async fn shut_down(self) {
        let Self { core, servers, stop, delay, grace, .. } = self;
        core.service.set_not_ready();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let close_streams = async move {
            stop.cancel();
            for ended in futures_util::future::join_all(servers).await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a listener did not end as it should");
                }
            }
        };
        core.shut_down(grace, close_streams).await;
    }
}

async fn bind(config: &Config, key: &str, port: u16) -> Result<TcpListener> {
    let place = format!("{}:{port}", config.server.host);
    let listener = Server::bind(&config.server, port).await.map_err(|error| {
        let message = format!("{place} cannot be bound: {error}; stop what uses it, or choose another {key}");
        Error::new(Reason::Unreachable, message)
    })?;
    // A name that is meant for this machine may be resolved to an address beyond it.
    let address = listener.local_addr().map_err(Error::internal)?;
    if !address.ip().to_canonical().is_loopback() && !config.server.allow_anonymous_remote {
        let message = format!("{place} is {address}, which is beyond this machine; bind 127.0.0.1");
        return Err(Error::invalid("server.host", message));
    }
    Ok(listener)
}

/// Makes sure that a directory exists, or can be made, and can be written by this user. A disk that is full, or a system
/// that is out of something, is not this: it may be better when it is tried again.
fn require_directory(key: &str, path: &Path) -> Result<()> {
    let unusable = |error: std::io::Error| {
        let reason = match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename => Reason::Misconfigured,
            _ => Reason::StoreUnavailable,
        };
        let message = format!("{key}: {} cannot be used as a directory for data: {error}", path.display());
        Error::new(reason, message)
    };
    create_private_directory(path).map_err(unusable)?;
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(path, access).map_err(|error| unusable(error.into()))
}
