//! The metrics of this process, and their text as OpenMetrics has it.

use std::{sync::LazyLock, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Activity;

/// The upper bounds of durations, in seconds: from a cached read to a run of an hour.
const BOUNDS: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    door: &'static str,
    status: u16,
}

/// What tokens of a model were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Read by the model.
    Input,
    /// Written by the model, its reasoning included.
    Output,
}

type Durations = Family<Labels<1>, Histogram>;

struct Metrics {
    registry: Registry,
    ended: [Family<Labels<2>, Counter>; 4],
    durations: [Durations; 4],
    requests: Family<RequestLabels, Counter>,
    tokens: Family<Labels<1>, Counter>,
    queue_waits: Histogram,
}

fn durations() -> Durations {
    Family::new_with_constructor(|| Histogram::new(BOUNDS))
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::with_prefix("conductor_gateway");
    let metrics = Metrics {
        ended: Default::default(),
        durations: std::array::from_fn(|_| durations()),
        requests: Family::default(),
        tokens: Family::default(),
        queue_waits: Histogram::new(BOUNDS),
        registry: Registry::default(),
    };
    let named = [
        (
            "jobs",
            "Jobs that have ended, by door and outcome",
            "job_duration",
            "How long a job took, from its submission to its end",
        ),
        (
            "model_calls",
            "Calls of models, by provider and outcome",
            "model_call_duration",
            "How long a call of a model took",
        ),
        (
            "tool_calls",
            "Calls of tools, by tool and outcome",
            "tool_call_duration",
            "How long a call of a tool took",
        ),
        (
            "engine_runs",
            "Runs of the engine, by driver and outcome",
            "engine_run_duration",
            "How long a run of the engine took",
        ),
    ];
    for (index, (count, help, duration, duration_help)) in named.into_iter().enumerate() {
        registry.register(count, help, metrics.ended[index].clone());
        registry.register_with_unit(duration, duration_help, Unit::Seconds, metrics.durations[index].clone());
    }
    registry.register("requests", "Requests, by door and HTTP status", metrics.requests.clone());
    registry.register("model_tokens", "Tokens of models, by kind", metrics.tokens.clone());
    let help = "How long a job waited for its turn";
    registry.register_with_unit("queue_wait", help, Unit::Seconds, metrics.queue_waits.clone());
    Metrics { registry, ..metrics }
});

pub(super) fn observe(activity: Activity, subject: &'static str, outcome: &'static str, took: Duration) {
    let (index, subject) = (activity as usize, (activity.label(), subject));
    METRICS.ended[index].get_or_create(&[subject, ("outcome", outcome)]).inc();
    METRICS.durations[index].get_or_create(&[subject]).observe(took.as_secs_f64());
}

/// Counts a request that was answered.
pub(crate) fn count_request(door: &'static str, status: u16) {
    METRICS.requests.get_or_create(&RequestLabels { door, status }).inc();
}

/// Counts tokens that a model's server reported.
pub(crate) fn count_tokens(kind: TokenKind, count: u64) {
    let kind = match kind {
        TokenKind::Input => "input",
        TokenKind::Output => "output",
    };
    METRICS.tokens.get_or_create(&[("kind", kind)]).inc_by(count);
}

/// Records how long a job waited for its turn.
pub(crate) fn observe_queue_wait(waited: Duration) {
    METRICS.queue_waits.observe(waited.as_secs_f64());
}

/// Returns every metric as OpenMetrics text, with the given gauges (name without its prefix, help, value) before the end.
pub(crate) fn exposition(gauges: &[(&str, &str, u64)]) -> String {
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _infallible = text::encode_registry(&mut text, &METRICS.registry);
    for (name, help, value) in gauges {
        text += &format!(
            "# HELP conductor_gateway_{name} {help}.\n# TYPE conductor_gateway_{name} gauge\nconductor_gateway_{name} {value}\n"
        );
    }
    text += "# EOF\n";
    text
}
