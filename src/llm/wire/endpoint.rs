//! Builds request URLs: the path is joined to the configured address before its query, and a known suffix is not repeated.

use super::Wire;
use crate::secret::masked_url;

/// Returns the URL of a wire's requests, or a sentence if the base URL already ends in the path of another request.
pub(super) fn endpoint(wire: Wire, base: &http::Uri, model: &str) -> Result<String, String> {
    let path = base.path().trim_end_matches('/');
    let refuse = |what: &str| {
        let shown = masked_url(&base.to_string());
        Err(format!("agent.base_url: `{shown}` ends in {what}; give the address up to that"))
    };
    let path = match wire {
        Wire::ChatCompletions => match path.strip_suffix("/chat/completions") {
            Some(_) => path.to_owned(),
            None if ["/completions", "/responses", "/embeddings", "/models", "/chat"]
                .iter()
                .any(|end| path.ends_with(end)) =>
            {
                return refuse("the path of another request");
            }
            None => format!("{path}/chat/completions"),
        },
        Wire::Responses => match path.strip_suffix("/responses") {
            Some(_) => path.to_owned(),
            None if ["/completions", "/embeddings", "/models", "/chat"]
                .iter()
                .any(|end| path.ends_with(end)) =>
            {
                return refuse("the path of another request");
            }
            None => format!("{path}/responses"),
        },
        Wire::Messages if path.ends_with("/v1/messages") => path.to_owned(),
        Wire::Messages if path.ends_with("/v1") => format!("{path}/messages"),
        Wire::Messages if path.ends_with("/messages") => return refuse("the path of another request"),
        Wire::Messages => format!("{path}/v1/messages"),
        Wire::GenerateContent => {
            let method = format!("models/{}:streamGenerateContent", model.trim_start_matches("models/"));
            if path.contains(":generateContent") || path.contains(":streamGenerateContent") {
                return refuse("the path of a request");
            }
            if path.ends_with("/openai") {
                return refuse("the path of the OpenAI-compatible requests");
            }
            // Behind a version there may be a project, as in Vertex AI's addresses.
            let has_version = path.split('/').any(|segment| {
                segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            });
            let path = path.strip_suffix("/models").unwrap_or(path);
            if has_version || path.len() < base.path().trim_end_matches('/').len() {
                format!("{path}/{method}")
            } else {
                format!("{path}/v1beta/{method}")
            }
        }
    };
    let query = match (wire, base.query()) {
        (Wire::GenerateContent, Some(query)) => format!("?{query}&alt=sse"),
        (Wire::GenerateContent, None) => "?alt=sse".to_owned(),
        (_, Some(query)) => format!("?{query}"),
        (_, None) => String::new(),
    };
    let (scheme, authority) =
        (base.scheme_str().unwrap_or("http"), base.authority().map_or("", |a| a.as_str()));
    Ok(format!("{scheme}://{authority}{path}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_before_the_query_and_not_doubled() {
        let at = |wire, base: &str| endpoint(wire, &base.parse().unwrap(), "m");
        let chat = |base| at(Wire::ChatCompletions, base).unwrap();
        assert_eq!(chat("http://h/v1?api-version=2"), "http://h/v1/chat/completions?api-version=2");
        assert_eq!(chat("http://h/v1/chat/completions"), "http://h/v1/chat/completions");
        assert_eq!(chat("https://h:8/"), "https://h:8/chat/completions");
        assert!(at(Wire::ChatCompletions, "http://h/v1/responses").unwrap_err().contains("agent.base_url"));
        assert_eq!(at(Wire::Responses, "http://h/v1?a=b").unwrap(), "http://h/v1/responses?a=b");
        assert_eq!(at(Wire::Responses, "http://h/v1/responses").unwrap(), "http://h/v1/responses");
        assert!(at(Wire::Responses, "http://h/v1/chat/completions").is_err());
        let messages = |base| at(Wire::Messages, base).unwrap();
        for base in ["http://h", "http://h/v1", "http://h/v1/", "http://h/v1/messages"] {
            assert_eq!(messages(base), "http://h/v1/messages");
        }
        let gemini = |base| at(Wire::GenerateContent, base).unwrap();
        for base in ["http://h", "http://h/v1beta", "http://h/v1beta/models"] {
            assert_eq!(gemini(base), "http://h/v1beta/models/m:streamGenerateContent?alt=sse");
        }
        assert_eq!(
            gemini("https://h/v1/projects/p/locations/l/publishers/google"),
            "https://h/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent?alt=sse"
        );
        assert!(
            at(Wire::GenerateContent, "http://h/v1beta/openai").unwrap_err().contains("OpenAI-compatible")
        );
        assert_eq!(gemini("http://h/v1?x=1"), "http://h/v1/models/m:streamGenerateContent?x=1&alt=sse");
    }
}
