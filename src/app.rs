//! The composition root: the only place that names concrete stores and engines.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{self, Autodetect, Mind},
    config::Config,
    conversation::{ConversationStore, Layout, Names, upgrade},
    descriptors,
    edge::{self, Addresses, Capacity, Headers, Server},
    engine::{Engine, Kind, Limits, Supervisor, sweep},
    error::{Error, Reason, Result},
    files::Pool,
    job::{AgentWorker, Condition, Desk, JobService},
    journal::{self, Catalogue, EmbeddedStore, EventLog, Journal, MemoryStore, Parts},
    llm,
    mcp::{AgentTools, McpHandler, OutsideServers, Own},
    principal::{OwnersOnly, Policy, Principal},
    secret::{Secret, masked_url},
    task::Group,
    tool::{Toolbox, ToolboxConfig},
};

/// The last part of the grace period, for what could not be stopped in time.
const LAST_RESORT: Duration = Duration::from_millis(700);
/// How often the engine's files are looked at, and how often one that did not start is started again.
const ENGINE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const ENGINE_START_INTERVAL: Duration = Duration::from_secs(30);
/// How long the store may take for the last events.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The gateway without its doors.
pub struct Core {
    /// What the doors and the command line call.
    pub service: JobService,
    /// What the doors ask that is no job.
    pub desk: Desk,
    supervisor: Supervisor,
    journal: Journal,
    kill_grace: Duration,
}

impl Core {
    /// Builds it: store, guardian, engine, jobs. Recovers what the process before this one left.
    ///
    /// # Errors
    /// What could not be opened or started, with a text that says what to do.
    pub async fn build(config: &Config) -> Result<Self> {
        let data_directory = std::path::absolute(&config.storage.path)
            .map_err(|error| Error::new(Reason::StoreUnavailable, format!("storage.path: {error}")))?;
        // Before anything is opened that the limit counts: a start may find as many jobs as the run before it had.
        descriptors::raise_limit();
        let (catalogue, events): (Arc<dyn Catalogue>, Arc<dyn EventLog>) = match config.storage.kind {
            journal::Kind::Memory => {
                let store = Arc::new(MemoryStore::default());
                (store.clone(), store)
            }
            journal::Kind::Embedded => {
                let store = EmbeddedStore::open(&data_directory, config.storage.durability)?;
                // Only the one that holds the store's lock may end what an earlier one left running.
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
        let names = Names::open(&data_directory).map_err(unusable)?;
        // Only the one that holds the store's lock changes what lies in it.
        if config.storage.kind == journal::Kind::Embedded {
            upgrade(&data_directory, &names).map_err(unusable)?;
        }
        let own_program = own_program()?;
        let engine = Engine::configured(&config.conductor, &own_program)
            .map_err(|message| Error::new(Reason::EngineNotStarted, message))?;
        let guardian = vec![own_program, "guardian".to_owned()];
        let supervisor = Supervisor::start_guardian(guardian, Group::new("supervisor")).await?;
        if engine.kind == Kind::Bundled {
            seed(&engine, &supervisor).await?;
        }
        let max_tail_bytes = config.jobs.tail_bytes as usize;
        let max_log_bytes = config.jobs.log_bytes();
        let parts = Parts { catalogue, events, policy: policy.clone(), max_tail_bytes, max_log_bytes };
        let (journal, damage) = Journal::open(parts).await?;
        for damage in &damage {
            tracing::error!(%damage, "the store is damaged; what is readable goes on, the originals are kept in its directory `damaged`");
        }
        let thinking = Thinking::choose(&config.agent).await?;
        // A store in memory is nobody's inheritance, and has no lock: a gateway beside this one, over the same
        // directory, must not end its processes.
        let mut home = data_directory.to_string_lossy().into_owned();
        if config.storage.kind == journal::Kind::Memory {
            home = format!("{home}#{}", std::process::id());
        }
        let toolbox_config = ToolboxConfig {
            home: home.clone(),
            agent_environment: thinking.for_engine(engine.kind),
            engine,
            data_directory: data_directory.clone(),
            conductor: config.conductor.clone(),
            policy,
        };
        let pool = Pool::default();
        let layout = Layout { data_directory: data_directory.clone(), names };
        let conversations = ConversationStore::new(layout, config.conversations.clone(), pool.clone());
        let toolbox = Toolbox::new(toolbox_config, conversations, pool, supervisor.clone())?;
        let mind = thinking.mind(config, &toolbox, &supervisor, (&home, &data_directory)).await?;
        let mind = Arc::new(mind);
        let worker = Arc::new(AgentWorker { toolbox: toolbox.clone(), mind: mind.clone() });
        let service = JobService::start(config.jobs.clone(), journal.clone(), worker).await;
        let desk = Desk::new(service.clone(), toolbox, mind);
        if config.agent.autodetect == Autodetect::Offer && desk.mind().model.is_none() {
            let desk = desk.clone();
            // It only looks, and is given up with the runtime.
            Group::new("background").spawn("detect_models", async move { offer_local_models(&desk).await });
        }
        let kill_grace = Duration::from_secs(config.conductor.kill_grace_seconds.into());
        Ok(Self { service, desk, supervisor, journal, kill_grace })
    }

    /// The tools for MCP clients; their calls are jobs.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub fn mcp_handler(&self) -> Result<McpHandler> {
        McpHandler::for_outside(self.desk.toolbox().clone(), Arc::new(self.service.clone()))
    }

    /// The tools for one MCP client on standard input and output.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub fn mcp_handler_for_streams(&self, caller: Principal) -> Result<McpHandler> {
        McpHandler::for_streams(self.desk.toolbox().clone(), Arc::new(self.service.clone()), caller)
    }

    /// Ends everything within `grace`, in the order of docs/architecture.md: jobs, engines, last events,
    /// streams (by `close_streams`), the store.
    pub async fn shut_down(self, grace: Duration, close_streams: impl Future<Output = ()>) {
        let stop_time = (self.kill_grace + LAST_RESORT).min(grace);
        let mut is_over = self.service.finish_running(grace.saturating_sub(stop_time)).await;
        if !is_over {
            is_over = self.service.interrupt_running(stop_time.saturating_sub(LAST_RESORT)).await;
        }
        self.desk.mind().tools.close();
        // The guardian kills what is left at once, and with it every wait for it ends.
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

/// The model that was chosen.
struct Thinking {
    choice: llm::Choice,
    detected: Vec<llm::Detected>,
}

impl Thinking {
    async fn choose(config: &agent::Config) -> Result<Self> {
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

    /// What the bundled engine's agents reach the model with. A real engine has its own.
    fn for_engine(&self, kind: Kind) -> BTreeMap<String, Secret> {
        let selected = self.choice.selected.as_ref().filter(|_| kind == Kind::Bundled);
        let variable = selected.and_then(|selected| serde_json::to_string(selected).ok());
        variable.map(|json| (llm::MODEL_VARIABLE.to_owned(), Secret::from(json))).into_iter().collect()
    }

    async fn mind(
        self,
        config: &Config,
        toolbox: &Toolbox,
        supervisor: &Supervisor,
        home: (&str, &Path),
    ) -> Result<Mind> {
        let model = self.choice.selected.as_ref().map(llm::connect).transpose();
        let model = model.map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        let own = Own::connect(McpHandler::for_agent(toolbox.clone())?).await?;
        let outside = OutsideServers::connect(&config.agent.mcp_servers, supervisor, home);
        Ok(Mind {
            model,
            why: self.choice.why,
            tools: AgentTools::new(own, outside),
            config: config.agent.clone(),
            checks: crate::files::Pool::default(),
            detected: self.detected.into(),
        })
    }
}

/// Looks for model servers on this machine, so that `/health` can name them.
async fn offer_local_models(desk: &Desk) {
    let found = llm::detect().await;
    for server in &found {
        tracing::info!(
            base_url = masked_url(&server.base_url), provider = server.provider.name(), models = ?server.models,
            "a model server runs here; name it in agent.provider and agent.model to use it"
        );
    }
    desk.mind().set_detected(found);
}

/// Looks whether the engine can run: its files often, and by starting it once, and again while that fails.
async fn check_engine(service: JobService, toolbox: Toolbox, stop: CancellationToken) {
    tokio::select! {
        // Given up where it is; a process that it has started ends with it.
        () = check_engine_for_ever(service, toolbox) => {}
        () = stop.cancelled() => {}
    }
}

async fn check_engine_for_ever(service: JobService, toolbox: Toolbox) {
    let mut start_problem = toolbox.engine_start_problem().await;
    let mut started_at = tokio::time::Instant::now();
    loop {
        if start_problem.is_some() && started_at.elapsed() >= ENGINE_START_INTERVAL {
            start_problem = toolbox.engine_start_problem().await;
            started_at = tokio::time::Instant::now();
        }
        let problem = toolbox.engine_problem().await.or_else(|| start_problem.clone());
        service.set_condition(Condition::Engine, problem);
        tokio::time::sleep(ENGINE_CHECK_INTERVAL).await;
    }
}

fn own_program() -> Result<String> {
    let path = std::env::current_exe().map_err(Error::internal)?;
    // Replaced by an upgrade while it runs: the kernel still knows the file.
    let path = if path.exists() { path } else { "/proc/self/exe".into() };
    Ok(path.to_string_lossy().into_owned())
}

/// A bundled engine that was never used gets its templates, so that there is something to run.
async fn seed(engine: &Engine, supervisor: &Supervisor) -> Result<()> {
    let is_used = |root: &Path| {
        root.join("config.yaml").exists()
            || root.join(crate::engine::workspace::DEFAULT_STORAGE_PATH).exists()
    };
    if is_used(&engine.root) {
        return Ok(());
    }
    let limits = Limits {
        timeout: Duration::from_secs(30),
        kill_grace: Duration::from_secs(1),
        max_output_bytes: 64 * 1024,
        max_kept_bytes: 64 * 1024,
    };
    let program = engine.program.iter().cloned().chain(["--install=all".to_owned()]).collect();
    let command = crate::engine::Command {
        program,
        environment: engine.environment.clone(),
        directory: engine.root.clone(),
        has_input: false,
    };
    let mut run = supervisor.run(command, limits).await?;
    let never = CancellationToken::new();
    while run.next(&never).await.is_some() {}
    let finished = run.finish();
    if finished.exit == crate::engine::Exit::Code(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
    Err(Error::new(
        Reason::EngineNotStarted,
        format!("the bundled engine's workspace could not be filled: {said}"),
    ))
}

/// The gateway with its doors open.
pub struct App {
    core: Core,
    servers: Vec<tokio::task::JoinHandle<()>>,
    stop: CancellationToken,
    addresses: Addresses,
    delay: Duration,
    grace: Duration,
}

impl App {
    /// Builds everything and opens the doors: MCP first, so that whoever reads where it is finds it open.
    ///
    /// # Errors
    /// As [`Core::build`]; [`Reason::Unreachable`] when an address cannot be bound.
    pub async fn start(config: &Config) -> Result<Self> {
        let server = &config.server;
        // Bound first, so that a taken port is known before anything is recovered; served once all is ready.
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
            let mcp = Server::new(listener, server, &config.auth, doors, Headers::Mcp, &capacity)
                .map_err(Error::internal)?;
            servers.push(group.spawn("mcp_listener", mcp.serve(stop.clone())));
        }
        let (conversations, stopping) = (core.desk.toolbox().conversations().clone(), stop.clone());
        group.spawn("conversations", async move { conversations.expire(stopping).await });
        group.spawn(
            "check_engine",
            check_engine(core.service.clone(), core.desk.toolbox().clone(), stop.clone()),
        );
        let doors = edge::doors(&core.service, &core.desk, server, addresses);
        let api = Server::new(listener, server, &config.auth, doors, Headers::Api, &capacity)
            .map_err(Error::internal)?;
        servers.push(group.spawn("listener", api.serve(stop.clone())));
        Ok(Self {
            core,
            servers,
            stop,
            addresses,
            delay: Duration::from_secs(server.shutdown_delay_seconds.into()),
            grace: Duration::from_secs(server.shutdown_grace_seconds.into()),
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Ends it, in order, within its grace period.
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
    Server::bind(&config.server, port).await.map_err(|error| {
        let place = format!("{}:{port}", config.server.host);
        let message = format!("{place} cannot be bound: {error}; stop what uses it, or choose another {key}");
        Error::new(Reason::Unreachable, message)
    })
}
