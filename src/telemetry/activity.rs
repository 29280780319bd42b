//! What spans are about.

/// What a span is about. The names are those of the OpenTelemetry conventions for agents, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// One task, from its submission to its end; the subject is the door.
    Job,
    /// One call of a model; the subject is its provider.
    Chat,
    /// One call of a tool; the subject is the tool, or `external`.
    ExecuteTool,
    /// One run of an engine; the subject is what runs it.
    EngineRun,
}

impl Activity {
    /// Returns the name of the span.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Job => "invoke_agent",
            Self::Chat => "chat",
            Self::ExecuteTool => "execute_tool",
            Self::EngineRun => "engine_run",
        }
    }

    /// Returns what the metrics call its subject.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Job => "door",
            Self::Chat => "provider",
            Self::ExecuteTool => "tool",
            Self::EngineRun => "driver",
        }
    }
}
