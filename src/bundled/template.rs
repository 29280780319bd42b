//! The templates that come with the bundled engine.

/// An agent that can be installed.
pub(super) struct Template {
    pub(super) category: &'static str,
    pub(super) agent_id: &'static str,
    pub(super) definition: &'static str,
    pub(super) persona: &'static str,
}

macro_rules! template {
    ($category:literal, $agent_id:literal) => {
        Template {
            category: $category,
            agent_id: $agent_id,
            definition: include_str!(concat!("templates/", $category, "/", $agent_id, "/definition.yaml")),
            persona: include_str!(concat!("templates/", $category, "/", $agent_id, "/persona.md")),
        }
    };
}

/// All templates, by category.
pub(super) const TEMPLATES: &[Template] = &[
    template!("core", "CodeReviewer_Agent"),
    template!("core", "DocWriter_Agent"),
    template!("core", "CommitMessage_Agent"),
    template!("development", "TestWriter_Agent"),
    template!("development", "BugHunter_Agent"),
    template!("development", "SecurityReviewer_Agent"),
    template!("data", "SqlExpert_Agent"),
    template!("data", "DataAnalyst_Agent"),
];
