//! The state that outlives a crash: what the store holds, what each client was told, and how often work was begun.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::backing_store::{BackingKind, BackingStore, SimulatedDisk};
use crate::{
    ambient::simulated::Random,
    journal::{JobId, JobOverview},
    pb::{Job, JobState},
    sync::lock,
};

/// What clients were told about a job.
#[derive(Clone, Debug, Default)]
pub(super) struct ObservedJob {
    /// The name of the caller that owns it.
    pub(super) caller: String,
    /// Whether its deletion was requested.
    pub(super) may_go: bool,
    /// Whether its caller was told that it no longer exists.
    pub(super) is_gone: bool,
    /// The events that some reader has seen, by sequence.
    pub(super) events: BTreeMap<u32, bytes::Bytes>,
    /// The terminal state, if a client was told one.
    pub(super) ended: Option<JobState>,
    /// The last event that each gateway number has shown, in any life.
    pub(super) shown: BTreeMap<u32, u32>,
    /// Whether some reader has seen its last event.
    pub(super) is_end_seen: bool,
    /// Whether a cancellation returned it as CANCELLED without a start time.
    pub(super) is_cancelled_before_start: bool,
}

#[derive(Debug)]
struct WorldState {
    random: Random,
    /// The store outlives the gateways; each life builds its index anew.
    store: Arc<dyn BackingStore>,
    /// Whether a gateway of this life has opened the store.
    is_open: bool,
    /// Until when each gateway cannot reach the store.
    cut_off: BTreeMap<u32, Instant>,
    told: BTreeMap<JobId, ObservedJob>,
    /// Jobs that are being deleted.
    going: BTreeSet<JobId>,
    /// The latest job that was returned for each idempotency key.
    keys: BTreeMap<String, JobId>,
    begun: BTreeMap<String, u32>,
    /// The number of running jobs by gateway and caller.
    working: BTreeMap<(u32, String), u32>,
    /// The agents that running jobs use exclusively, by gateway.
    agents: BTreeSet<(u32, String)>,
    digest: DefaultHasher,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct World {
    state: Mutex<WorldState>,
    /// The disk of the store, if it has one.
    disk: Option<SimulatedDisk>,
    /// Whether retention may remove ended jobs at any time.
    keeps_little: bool,
}

/// A deletion that has not returned yet.
struct PendingDeletion<'a> {
    world: &'a World,
    job_id: JobId,
}

impl Drop for PendingDeletion<'_> {
    fn drop(&mut self) {
        self.world.state().going.remove(&self.job_id);
    }
}

impl World {
    pub(super) fn new(mut random: Random, keeps_little: bool, kind: BackingKind) -> Self {
        let (store, disk) = kind.create(random.below(u64::MAX));
        let state = Mutex::new(WorldState {
            random,
            store,
            is_open: false,
            cut_off: BTreeMap::new(),
            told: BTreeMap::new(),
            going: BTreeSet::new(),
            keys: BTreeMap::new(),
            begun: BTreeMap::new(),
            working: BTreeMap::new(),
            agents: BTreeSet::new(),
            digest: DefaultHasher::new(),
        });
        Self { state, disk, keeps_little }
    }

    fn state(&self) -> MutexGuard<'_, WorldState> {
        lock(&self.state)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.state().random.below(bound)
    }

    pub(super) fn percent(&self, chance: u64) -> bool {
        self.state().random.percent(chance)
    }

    /// Adds an event to the digest that identifies the run, and prints it if a single seed is run.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        if super::variables::number("SIMULATION_SEED").is_some() {
            let text = format!("{:?} {what}\n", crate::pb::Timestamp::now().unix_millis());
            let _unheard = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
        let mut state = self.state();
        what.to_string().hash(&mut state.digest);
        crate::pb::Timestamp::now().unix_millis().hash(&mut state.digest);
    }

    pub(super) fn digest(&self) -> u64 {
        self.state().digest.finish()
    }

    /// Begins a life: gateways start again with what was stored, and nobody holds a job. `is_last` means that nothing fails in
    /// this life.
    pub(super) fn begin_life(&self, is_last: bool) {
        let mut state = self.state();
        if let Some(disk) = &self.disk {
            let WorldState { random, .. } = &mut *state;
            disk.begins_again(random, is_last);
        }
        state.store = state.store.reopened();
        state.is_open = false;
        state.cut_off.clear();
    }

    /// Returns whether this is the first gateway of this life to open the store, and records that it is open.
    pub(super) fn opens(&self) -> bool {
        !std::mem::replace(&mut self.state().is_open, true)
    }

    pub(super) fn store(&self) -> Arc<dyn BackingStore> {
        self.state().store.clone()
    }

    /// Randomly fills the disk of the store, or frees it again.
    pub(super) fn may_fill_the_disk(&self) {
        if let Some(disk) = &self.disk {
            let WorldState { random, .. } = &mut *self.state();
            disk.may_be_full(random);
        }
    }

    /// Cuts a gateway off from the store for a while.
    pub(super) fn cut_off(&self, gateway: u32, time: std::time::Duration) {
        self.note(format_args!("gateway {gateway} is cut off for {time:?}"));
        self.state().cut_off.insert(gateway, Instant::now() + time);
    }

    /// Returns when a gateway reaches the store again, if it was cut off in this life.
    pub(super) fn reaches(&self, gateway: u32) -> Option<Instant> {
        self.state().cut_off.get(&gateway).copied()
    }

    /// Returns what the store knows of each job.
    pub(super) fn contents(&self) -> BTreeMap<JobId, JobOverview> {
        let store = self.store();
        let known = |job_id: JobId| {
            let known = store.get(&job_id).now_or_never().expect("asked at once").ok()?;
            Some((job_id, known))
        };
        store.job_ids().into_iter().filter_map(known).collect()
    }

    fn has(&self, job_id: &JobId) -> bool {
        self.store().get(job_id).now_or_never().expect("asked at once").is_ok()
    }

    /// Records that a client was told that its job was accepted, and checks that its key stands for one job.
    pub(super) fn accepted(&self, job_id: &JobId, key: &str, caller: &str) {
        let mut state = self.state();
        let told = state.told.entry(job_id.clone()).or_default();
        assert!(!told.is_gone, "{job_id} came back");
        told.caller = caller.to_owned();
        if !key.is_empty()
            && let Some(first) = state.keys.insert(key.to_owned(), job_id.clone())
        {
            let store = state.store.clone();
            let get = |job_id: &JobId| store.get(job_id).now_or_never().expect("asked at once").ok();
            let contents: BTreeMap<_, _> =
                [&first, job_id].into_iter().filter_map(|job_id| Some((job_id, get(job_id)?))).collect();
            let is_there = contents.contains_key(&first) && contents.contains_key(job_id);
            // A job that was cancelled because its client disconnected releases its key.
            let is_given_up = |known: &JobOverview| known.is_ended && known.state == JobState::Cancelled;
            let is_freed = contents.get(&first).is_some_and(is_given_up)
                || contents.get(job_id).is_some_and(is_given_up);
            assert!(first == *job_id || !is_there || is_freed, "one key is one job: {first} and {job_id}");
        }
    }

    /// Records that the deletion of a job was requested.
    pub(super) fn may_go(&self, job_id: &JobId) {
        self.state().told.entry(job_id.clone()).or_default().may_go = true;
    }

    /// Checks that a job may be removed, and marks it as being deleted until the returned guard is dropped. Meanwhile not every
    /// gateway has to know.
    pub(super) fn remove(&self, job_id: &JobId) -> impl Drop + '_ {
        let mut state = self.state();
        let may_go = self.keeps_little || state.told.get(job_id).is_some_and(|told| told.may_go);
        let known = state.store.get(job_id).now_or_never().expect("asked at once");
        let has_ended = known.map_or(true, |known| known.is_ended);
        assert!(may_go && has_ended, "{job_id} is removed");
        state.going.insert(job_id.clone());
        PendingDeletion { world: self, job_id: job_id.clone() }
    }

    /// Checks and records that a client was told that its job does not exist.
    pub(super) fn told_gone(&self, job_id: &JobId) {
        assert!(!self.has(job_id), "{job_id} is not there, and the store has it");
        let mut state = self.state();
        let is_gone = !state.going.contains(job_id);
        state.told.entry(job_id.clone()).or_default().is_gone |= is_gone;
    }

    pub(super) fn accepted_jobs(&self) -> Vec<JobId> {
        self.state().told.keys().cloned().collect()
    }

    pub(super) fn told(&self, job_id: &JobId) -> ObservedJob {
        self.state().told[job_id].clone()
    }

    /// Records an event that a gateway showed to a reader, and checks that every reader sees the same bytes.
    pub(super) fn seen(&self, gateway: u32, job_id: &JobId, sequence: u32, bytes: &bytes::Bytes) {
        let mut state = self.state();
        let told = state.told.entry(job_id.clone()).or_default();
        let before = told.events.entry(sequence).or_insert_with(|| bytes.clone());
        assert_eq!(before, bytes, "{job_id}: event {sequence} is another one now");
        let shown = told.shown.entry(gateway).or_default();
        *shown = sequence.max(*shown);
        use prost::Message;
        let event = crate::pb::JobEvent::decode(bytes.clone()).unwrap();
        told.is_end_seen |= matches!(event.payload, Some(crate::pb::job_event::Payload::EndOfStream(_)));
    }

    /// Checks a job that a gateway returned against everything that was told before.
    pub(super) fn told_state(&self, gateway: u32, job: &Job) {
        let mut state = self.state();
        let Ok(job_id) = JobId::parse(&job.job_id) else { panic!("no id: {job:?}") };
        // Other gateways may have taken over what this one held without its knowledge. A terminal state that it reports is always
        // the stored one.
        if !job.state().is_terminal() && state.cut_off.contains_key(&gateway) {
            return;
        }
        let told = state.told.entry(job_id.clone()).or_default();
        match told.ended {
            Some(before) => assert_eq!(job.state(), before, "{job_id}: it had ended"),
            None if job.state().is_terminal() => told.ended = Some(job.state()),
            None => {}
        }
        // A client that has seen an event must not get an older state of the job from the same gateway.
        let last_seen = told.shown.get(&gateway).copied().unwrap_or(0);
        assert!(
            job.last_sequence >= last_seen,
            "{job_id}: {} is told, {last_seen} was seen",
            job.last_sequence
        );
        let is_end_shown =
            told.is_end_seen && last_seen == told.events.keys().next_back().copied().unwrap_or(0);
        assert!(!is_end_shown || job.state().is_terminal(), "{job_id}: its end was seen");
    }

    /// Records that a cancellation returned the job as CANCELLED without a start time.
    pub(super) fn cancelled_before_start(&self, job_id: &JobId) {
        self.state().told.entry(job_id.clone()).or_default().is_cancelled_before_start = true;
    }

    /// Records that work on a job begins, and checks that it begins only once and within the limits of concurrency.
    pub(super) fn begin(&self, gateway: u32, job_id: &str, by: &str, agent: Option<&str>, max_working: u32) {
        let mut state = self.state();
        let count = state.begun.entry(job_id.to_owned()).or_default();
        *count += 1;
        assert_eq!(*count, 1, "{job_id} was begun twice");
        let own = state.working.entry((gateway, by.to_owned())).or_default();
        *own += 1;
        // The last quarter is reserved for callers who have no running job.
        assert!(
            *own <= (max_working - max_working / 4).max(1),
            "{own} of {by} at once, {max_working} in all"
        );
        let all: u32 =
            state.working.iter().filter(|((at, _), _)| *at == gateway).map(|(_, count)| count).sum();
        assert!(all <= max_working, "{all} at once");
        if let Some(agent) = agent {
            assert!(
                state.agents.insert((gateway, agent.to_owned())),
                "two at once have {agent} for themselves"
            );
        }
    }

    pub(super) fn stop(&self, gateway: u32, by: &str, agent: Option<&str>) {
        let mut state = self.state();
        *state.working.entry((gateway, by.to_owned())).or_default() -= 1;
        if let Some(agent) = agent {
            state.agents.remove(&(gateway, agent.to_owned()));
        }
    }

    pub(super) fn begun(&self, job_id: &JobId) -> u32 {
        self.state().begun.get(job_id.as_str()).copied().unwrap_or(0)
    }

    /// Checks that no work outlived the life.
    pub(super) fn all_stopped(&self) {
        let state = self.state();
        let is_over = state.working.values().all(|working| *working == 0) && state.agents.is_empty();
        assert!(is_over, "work outlived its runtime: {:?}", state.working);
    }
}
