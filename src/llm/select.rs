//! Chooses the model: the configured one, else one whose key is in the environment, else a detected local server if
//! that is allowed.

use std::collections::BTreeMap;

use super::{Api, DetectedServer, Price, Provider, SelectedModel, Timeouts};
use crate::secret::{Secret, masked_url};

/// What the configuration says about the model.
#[derive(Clone, Debug)]
pub struct ModelPreferences {
    /// The provider, where one is named.
    pub provider: Option<Provider>,
    /// Which of the provider's protocols to use.
    pub api: Api,
    /// The model, where one is named.
    pub model: Option<String>,
    /// The address, where one is named.
    pub base_url: Option<String>,
    /// The key, where one is given.
    pub api_key: Secret,
    /// Additional headers of every request.
    pub headers: BTreeMap<String, Secret>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// The maximum number of tokens in one answer.
    pub max_tokens: Option<u32>,
    /// How long each part of a call may take.
    pub timeouts: Timeouts,
    /// Whether prompts are marked for the provider's cache.
    pub caches_prompts: bool,
    /// Prices of models by name.
    pub prices: BTreeMap<String, Price>,
    /// Whether a detected local server may be used without being named.
    pub uses_detected: bool,
}

/// The result of the choice.
#[derive(Clone, Debug)]
pub(crate) struct ModelChoice {
    /// The model; with `None`, commands are planned directly.
    pub selected: Option<SelectedModel>,
    /// The reason, in a sentence.
    pub why: String,
}

/// Chooses the model. `variable` reads an environment variable.
///
/// # Errors
/// A sentence if something is configured, or a key is found, and the provider lacks a key or a model, or the base
/// URL holds credentials.
pub(crate) fn choose(
    wanted: &ModelPreferences,
    variable: impl Fn(&str) -> Option<String>,
    detected: &[DetectedServer],
) -> Result<ModelChoice, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let none = |why: &str| Ok(ModelChoice { selected: None, why: why.to_owned() });
    if wanted.provider == Some(Provider::None) {
        return none("agent.provider is none");
    }
    let is_configured = wanted.provider.is_some() || wanted.model.is_some() || wanted.base_url.is_some();
    if is_configured || !wanted.api_key.is_empty() {
        let known = wanted.provider.or_else(|| with_key(&variable));
        let provider = known.unwrap_or(Provider::OpenAi);
        return configured(wanted, provider, &variable, detected).map_err(|mistake| match known {
            Some(_) => mistake,
            None => {
                format!("agent.provider: is not set, so openai is assumed; name the provider, or: {mistake}")
            }
        });
    }
    if let Some(provider) = with_key(&variable) {
        return configured(wanted, provider, &variable, detected);
    }
    match detected.first() {
        Some(found) if wanted.uses_detected => {
            let provider = found.provider;
            let Some(model) = found.models.first() else { return none("the local server lists no model") };
            let selected =
                selected(wanted, provider, model.clone(), found.base_url.clone(), Secret::default());
            Ok(ModelChoice {
                selected: Some(selected),
                why: format!("found at {}, and agent.autodetect is use", masked_url(&found.base_url)),
            })
        }
        Some(found) => none(&format!(
            "a local server was found at {} and not chosen; set agent.provider to {}, or agent.autodetect to use",
            masked_url(&found.base_url),
            found.provider.name()
        )),
        None => none("no model is configured, no key is in the environment, no local server was chosen"),
    }
}

fn with_key(variable: &impl Fn(&str) -> Option<String>) -> Option<Provider> {
    let has_key = |provider: &&Provider| provider.key_variables().iter().any(|name| variable(name).is_some());
    Provider::WITH_KEYS.iter().find(has_key).copied()
}

fn configured(
    wanted: &ModelPreferences,
    provider: Provider,
    variable: &impl Fn(&str) -> Option<String>,
    detected: &[DetectedServer],
) -> Result<ModelChoice, String> {
    let from_environment = provider.key_variables().iter().find_map(|name| Some((*name, variable(name)?)));
    // A key from the environment is sent only to the provider's own address and to the address that the environment names.
    let environment_url = provider.url_variable().and_then(variable);
    let base_url = wanted.base_url.clone().or_else(|| environment_url.clone());
    let base_url = base_url.unwrap_or_else(|| provider.default_base_url().to_owned());
    let base_url = base_url.trim().trim_end_matches('/').to_owned();
    // The base URL is shown in /health, the log and errors, so it must not hold credentials.
    let authority = base_url.parse::<http::Uri>().ok().and_then(|uri| uri.authority().cloned());
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("agent.base_url: holds a user or a password; put the key into agent.api_key, or a header into agent.headers".to_owned());
    }
    let is_its_own = base_url == provider.default_base_url()
        || environment_url.is_some_and(|url| url.trim().trim_end_matches('/') == base_url);
    let (api_key, key_source) = match (&wanted.api_key, from_environment) {
        (key, _) if !key.is_empty() => (key.clone(), "agent.api_key"),
        (_, Some((name, key))) if is_its_own => (Secret::from(key.trim().to_owned()), name),
        _ => (Secret::default(), "no key"),
    };
    if api_key.is_empty() && base_url == provider.default_base_url() && !provider.is_local() {
        let names = provider.key_variables().join(" or ");
        return Err(format!(
            "agent.provider: {} wants a key; set {names}, agent.api_key or agent.api_key_file",
            provider.name()
        ));
    }
    let listed =
        detected.iter().find(|found| found.base_url == base_url).and_then(|found| found.models.first());
    let model = wanted.model.clone().or_else(|| listed.cloned());
    let default = provider.default_model().filter(|_| base_url == provider.default_base_url());
    let Some(model) = model.or_else(|| default.map(str::to_owned)) else {
        return Err(format!(
            "agent.model: name the model that {0} is to use; {0}/models lists them",
            masked_url(&base_url)
        ));
    };
    let why = format!("{} at {}, with {key_source}", provider.name(), masked_url(&base_url));
    Ok(ModelChoice { selected: Some(selected(wanted, provider, model, base_url, api_key)), why })
}

/// Returns a key without what an editor or a shell puts around it: a byte order mark, white space, a line end.
fn trimmed(secret: &Secret) -> Secret {
    let is_around = |c: char| c.is_whitespace() || c == '\u{feff}';
    Secret::from(secret.expose().trim_matches(is_around).to_owned())
}

fn selected(
    wanted: &ModelPreferences,
    provider: Provider,
    model: String,
    base_url: String,
    api_key: Secret,
) -> SelectedModel {
    let headers = wanted.headers.iter().map(|(name, value)| (name.clone(), trimmed(value)));
    SelectedModel {
        provider,
        api: wanted.api,
        price: Price::find(&wanted.prices, &model),
        caches_prompts: wanted.caches_prompts,
        model,
        base_url,
        api_key: trimmed(&api_key),
        headers: headers.collect(),
        temperature: wanted.temperature,
        max_tokens: wanted.max_tokens,
        timeouts: wanted.timeouts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> ModelPreferences {
        ModelPreferences {
            provider: None,
            api: Api::default(),
            model: None,
            base_url: None,
            api_key: Secret::default(),
            headers: BTreeMap::new(),
            temperature: None,
            max_tokens: None,
            caches_prompts: true,
            prices: BTreeMap::new(),
            timeouts: Timeouts { connect_seconds: 1, first_byte_seconds: 1, idle_seconds: 1 },
            uses_detected: false,
        }
    }

    fn choose_with(wanted: &ModelPreferences, environment: &[(&str, &str)]) -> Result<ModelChoice, String> {
        let found = DetectedServer {
            provider: Provider::Ollama,
            base_url: Provider::Ollama.default_base_url().to_owned(),
            models: vec!["small".to_owned()],
        };
        let variable =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        choose(wanted, variable, &[found])
    }

    #[test]
    fn what_an_editor_puts_around_a_key_is_no_part_of_it() {
        let api_key = Secret::from("\u{feff}key-1\r\n".to_owned());
        let headers = BTreeMap::from([("x-secret".to_owned(), Secret::from(" value\n".to_owned()))]);
        let wanted = ModelPreferences { provider: Some(Provider::OpenAi), api_key, headers, ..wanted() };
        let selected = choose_with(&wanted, &[]).unwrap().selected.unwrap();
        assert_eq!((selected.api_key.expose(), selected.headers["x-secret"].expose()), ("key-1", "value"));
        let broken = SelectedModel { api_key: Secret::from("a\nb".to_owned()), ..selected };
        assert!(crate::llm::connect(&broken).unwrap_err().contains("agent.api_key"));
    }

    #[test]
    fn the_order_of_choice() {
        let keys = [("GEMINI_API_KEY", "g"), ("ANTHROPIC_API_KEY", "a")];
        let chosen =
            |wanted: &ModelPreferences, environment| choose_with(wanted, environment).unwrap().selected;
        assert_eq!(chosen(&wanted(), &keys).unwrap().provider, Provider::Anthropic);
        assert!(chosen(&ModelPreferences { provider: Some(Provider::None), ..wanted() }, &keys).is_none());
        let named =
            chosen(&ModelPreferences { provider: Some(Provider::Gemini), ..wanted() }, &keys).unwrap();
        assert_eq!((named.provider, named.api_key.expose()), (Provider::Gemini, "g"));
        // A detected server is not used unless that is allowed.
        assert!(chosen(&wanted(), &[]).is_none());
        assert_eq!(
            chosen(&ModelPreferences { uses_detected: true, ..wanted() }, &[]).unwrap().model,
            "small"
        );
    }

    #[test]
    fn a_key_of_the_environment_goes_to_no_other_address() {
        let environment = [("OPENAI_API_KEY", "canary")];
        let elsewhere = ModelPreferences {
            base_url: Some("http://127.0.0.1:9/v1/".into()),
            model: Some("m".into()),
            ..wanted()
        };
        let selected = choose_with(&elsewhere, &environment).unwrap().selected.unwrap();
        assert!(selected.api_key.is_empty());
        assert_eq!(selected.base_url, "http://127.0.0.1:9/v1");
        let both = [("OPENAI_API_KEY", "canary"), ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")];
        let selected = choose_with(&ModelPreferences { model: Some("m".into()), ..wanted() }, &both)
            .unwrap()
            .selected
            .unwrap();
        assert_eq!(selected.api_key.expose(), "canary");
    }

    #[test]
    fn what_is_missing_is_said() {
        let error =
            choose_with(&ModelPreferences { provider: Some(Provider::OpenAi), ..wanted() }, &[]).unwrap_err();
        assert!(error.contains("OPENAI_API_KEY"), "{error}");
        let elsewhere = ModelPreferences { base_url: Some("http://127.0.0.1:9".into()), ..wanted() };
        assert!(choose_with(&elsewhere, &[]).unwrap_err().contains("agent.model"));
    }
}
