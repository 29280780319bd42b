//! The planner's vocabulary: the tools' own words and what people say instead of them.

/// Words that say nothing about what is meant.
pub(super) const FILLER: &[&str] = &[
    "a", "about", "able", "after", "again", "agora", "all", "also", "am", "an", "and", "any", "anything",
    "are", "as", "at", "be", "been", "being", "can", "conductor", "could", "currently", "de", "did", "do",
    "does", "dos", "each", "engine", "entire", "every", "existing", "existe", "existem", "eu", "for", "from",
    "full", "gateway", "going", "got", "had", "has", "have", "hello", "help", "here", "hey", "hi", "how",
    "i", "i'd", "i've", "if", "im", "i'm", "in", "into", "is", "it", "its", "it's", "just", "kind", "kindly",
    "know", "like", "local", "look", "machine", "may", "me", "meus", "might", "moment", "my", "now", "o",
    "of", "on", "or", "os", "our", "out", "please", "por", "favor", "pls", "present", "que", "quick",
    "quickly", "really", "shall", "should", "so", "some", "sort", "tenho", "thanks", "thank", "that", "the",
    "them", "there", "there's", "these", "they", "thing", "this", "those", "to", "today", "um", "up", "us",
    "want", "was", "we", "we've", "well", "were", "what", "what's", "whats", "which", "who", "who's", "with",
    "workspace", "would", "you", "your", "at", "wanna", "gimme", "exactly", "whether", "please", "actually",
    "right", "overview", "different", "various", "possible", "around", "inside", "disposal", "whole",
    "complete", "completely", "so", "far", "total", "terms", "ai", "single", "table", "json",
    "alphabetically", "sorted", "alphabetical", "got", "you've", "youve", "sure", "todos", "todas", "são",
    "estão", "form", "format", "plain", "summary",
];

/// Words that ask to be shown something.
pub(super) const SHOW: &[&str] = &[
    "available", "browse", "display", "dump", "enumerate", "exist", "fetch", "find", "get", "have",
    "installed", "list", "listar", "liste", "listing", "many", "mostrar", "mostre", "names", "print",
    "quais", "query", "retrieve", "see", "show", "tell", "view", "what", "which", "who", "inventory",
    "catalog", "catalogue", "roster", "disponíveis", "look", "counts", "instalados", "instaladas",
    "registered", "ready",
];

/// Words for agents in general.
pub(super) const AGENTS: &[&str] =
    &["agent", "agente", "assistant", "bot", "helper", "expert", "specialist", "agents", "agenten"];

/// Words that ask about one agent.
pub(super) const ABOUT: &[&str] = &[
    "ability", "abilities", "about", "can", "capability", "capabilities", "capable", "card",
    "characteristic", "definition", "describe", "description", "detail", "details", "do", "does",
    "everything", "explain", "feature", "fact", "good", "info", "information", "inspect", "introduce",
    "know", "knows", "metadata", "more", "persona", "profile", "properties", "property", "purpose", "skill",
    "summarise", "summarize", "summary", "tag", "tags", "what", "who", "agent", "agente", "specialise",
    "specialize", "sobre", "informações", "learn", "version", "author", "made", "examine", "spec", "handle",
    "role",
];

/// Words that ask whether all is well, or to find that out.
pub(super) const HEALTH: &[&str] = &[
    "check", "checked", "checkup", "consistency", "consistent", "correct", "correctly", "diagnose",
    "diagnostic", "diagnostics", "error", "fine", "functional", "functioning", "good", "health", "integrity",
    "intact", "invalid", "issue", "misconfigured", "ok", "okay", "operational", "problem", "properly",
    "sane", "sanity", "valid", "validate", "validation", "validity", "verification", "verify", "wrong",
    "broken", "complaint", "validar", "verificar", "healthy", "working", "works", "work", "well", "status",
    "right",
];

/// Words for what is checked.
pub(super) const SYSTEM: &[&str] = &[
    "conductor", "config", "configuration", "configurations", "engine", "everything", "installation",
    "setup", "system", "workspace", "configuração", "sistema", "configured", "something", "anything",
];

/// Words for the configuration.
pub(super) const CONFIG: &[&str] = &["config", "configuration", "configurations", "setting", "configuração"];

/// Words that go along with those for the configuration.
pub(super) const CONFIG_BESIDE: &[&str] = &[
    "current", "system", "setup", "active", "value", "effective", "detail", "info", "information", "engine",
];

/// Words for templates.
pub(super) const TEMPLATES: &[&str] = &["template", "blueprint", "installable"];

/// Words that go along with those for templates.
pub(super) const TEMPLATES_BESIDE: &[&str] = &[
    "agent", "category", "categories", "available", "install", "installed", "installation", "new", "more",
    "choose", "exist", "installing", "can",
];

/// Words that ask to change something, or to do what no read-only tool does. One of them is enough to do nothing.
pub(super) const CHANGE: &[&str] = &[
    "activate", "add", "append", "apply", "backup", "build", "change", "clean", "cleanup", "clear", "clone",
    "configure", "copy", "create", "deactivate", "delete", "deploy", "destroy", "disable", "discard",
    "download", "drop", "duplicate", "edit", "enable", "erase", "execute", "export", "fix", "forget",
    "generate", "import", "install", "invoke", "kill", "launch", "make", "merge", "migrate", "modify",
    "move", "overwrite", "patch", "prune", "publish", "purge", "push", "reinstall", "remove", "rename",
    "repair", "replace", "reset", "restart", "restore", "revert", "review", "run", "save", "send", "start",
    "stop", "switch", "terminate", "trash", "truncate", "uninstall", "undo", "update", "upgrade", "upload",
    "wipe", "write", "apagar", "apague", "remover", "remova", "deletar", "instalar", "instale", "criar",
    "executar", "execute", "schedule", "translate", "ask", "refactor", "rid", "optimise", "optimize",
    "transfer", "sync", "set", "shutdown", "set", "nuke", "scrap", "rollback", "refresh", "reload",
    "perform",
];

/// Words that negate a request.
pub(super) const NEGATION: &[&str] = &[
    "not", "no", "don't", "dont", "never", "without", "except", "nothing", "cannot", "can't", "não", "stop",
    "avoid", "but", "unless", "instead", "besides", "neither", "nor",
];
