//! The composition root: the only place that names concrete stores and engines.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    edge::Server,
    engine::{Engine, Kind, Limits, Supervisor, sweep},
    error::{Error, Reason, Result},
    job::JobService,
    journal::{self, EmbeddedStore, Journal, MemoryStore, Store},
    task::Group,
    tool::{Toolbox, ToolboxConfig},
};

/// The last part of the grace period, for what could not be stopped in time.
const LAST_RESORT: Duration = Duration::from_millis(700);
/// How long the store may take for the last events.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The gateway without its doors.
pub struct Core {
    /// What the doors and the command line call.
    pub service: JobService,
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
        let store: Arc<dyn Store> = match config.storage.kind {
            journal::Kind::Memory => Arc::new(MemoryStore::default()),
            journal::Kind::Embedded => {
                let store = EmbeddedStore::open(&data_directory, config.storage.durability)?;
                // Only the one that holds the store's lock may end what an earlier one left running.
                let killed = sweep(&data_directory).await;
                if killed > 0 {
                    tracing::warn!(killed, "processes of an earlier gateway were ended");
                }
                Arc::new(store)
            }
        };
        let own_program = own_program()?;
        let engine = Engine::configured(&config.conductor, &own_program)
            .map_err(|message| Error::new(Reason::EngineNotStarted, message))?;
        let guardian = vec![own_program, "guardian".to_owned()];
        let supervisor = Supervisor::start_guardian(guardian, Group::new("supervisor")).await?;
        if engine.kind == Kind::Bundled {
            seed(&engine, &supervisor).await?;
        }
        let (journal, unfinished, damage) = Journal::open(store, config.jobs.tail_bytes as usize).await?;
        for damage in &damage {
            tracing::error!(%damage, "the store is damaged; what is readable goes on, the originals are kept in its directory `damaged`");
        }
        let toolbox_config = ToolboxConfig { engine, data_directory, conductor: config.conductor.clone() };
        let toolbox = Toolbox::new(toolbox_config, supervisor.clone());
        let service = JobService::start(config.jobs.clone(), journal.clone(), toolbox, unfinished).await;
        let kill_grace = Duration::from_secs(config.conductor.kill_grace_seconds.into());
        Ok(Self { service, supervisor, journal, kill_grace })
    }

    /// Ends everything within `grace`, in the order of docs/architecture.md: jobs, engines, last events,
    /// streams (by `close_streams`), the store.
    pub async fn shut_down(self, grace: Duration, close_streams: impl Future<Output = ()>) {
        let stop_time = (self.kill_grace + LAST_RESORT).min(grace);
        let mut is_over = self.service.finish_running(grace.saturating_sub(stop_time)).await;
        if !is_over {
            is_over = self.service.interrupt_running(stop_time.saturating_sub(LAST_RESORT)).await;
        }
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
    server: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    address: std::net::SocketAddr,
    delay: Duration,
    grace: Duration,
}

impl App {
    /// Builds everything and opens the doors.
    ///
    /// # Errors
    /// As [`Core::build`]; [`Reason::Unreachable`] when the address cannot be bound.
    pub async fn start(config: &Config) -> Result<Self> {
        let cannot_bind = |error: std::io::Error| {
            let place = format!("{}:{}", config.server.host, config.server.port);
            Error::new(
                Reason::Unreachable,
                format!("{place} cannot be bound: {error}; stop what uses it, or choose another server.port"),
            )
        };
        // Bound first, so that a taken port is known before anything is recovered; served once all is ready.
        let listener = Server::bind(&config.server).await.map_err(cannot_bind)?;
        let core = Core::build(config).await?;
        let server =
            Server::new(listener, config.server.clone(), core.service.clone()).map_err(cannot_bind)?;
        let address = server.address().map_err(cannot_bind)?;
        let stop = CancellationToken::new();
        let serving = Group::new("server").spawn("listener", server.serve(stop.clone()));
        Ok(Self {
            core,
            server: serving,
            stop,
            address,
            delay: Duration::from_secs(config.server.shutdown_delay_seconds.into()),
            grace: Duration::from_secs(config.server.shutdown_grace_seconds.into()),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Ends it, in order, within its grace period.
    pub async fn shut_down(self) {
        let Self { core, server, stop, delay, grace, .. } = self;
        core.service.set_not_ready();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let close_streams = async move {
            stop.cancel();
            if let Err(error) = server.await {
                tracing::error!(%error, "the listener did not end as it should");
            }
        };
        core.shut_down(grace, close_streams).await;
    }
}
