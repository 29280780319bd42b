//! The configuration described: a JSON Schema for editors, and the page of the documentation.

use serde_json::{Value, json};

use super::{Config, tree, values};

/// Returns the JSON Schema (draft 2020-12) of a configuration file. Numbers of seconds and bytes may be written with units.
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let sections = schema["properties"].as_object_mut().into_iter().flatten();
    for (section, described) in sections {
        for (key, property) in described["properties"].as_object_mut().into_iter().flatten() {
            if let Some(pattern) = values::pattern(&format!("{section}.{key}")) {
                let mut numbers = property.clone();
                let description = numbers.as_object_mut().and_then(|numbers| numbers.remove("description"));
                let default = numbers.as_object_mut().and_then(|numbers| numbers.remove("default"));
                *property = json!({"anyOf": [numbers, {"type": "string", "pattern": pattern}]});
                for (name, value) in [("description", description), ("default", default)] {
                    if let Some(value) = value {
                        property[name] = value;
                    }
                }
            }
        }
    }
    schema
}

/// Returns the page of the documentation: every key with its default, its variable and what it means.
#[cfg_attr(not(test), expect(dead_code, reason = "the page is written by its test"))]
pub(super) fn page() -> String {
    let (schema, defaults) = (schema(), serde_json::to_value(Config::default()).unwrap_or_default());
    let mut text = "# Configuration\n\nMade from the program's own schema (`conductor-gateway config schema`); a test holds this page to it. \
                    [`config.yaml`](../config.yaml) is the same as a file to copy, and says where values come from. Each variable may also be \
                    written with the prefix `CONDUCTOR_GATEWAY_`. Durations may be written as `30s`, `5min`, `2h`, sizes as `512KiB`, `10GiB`. \
                    `conductor-gateway config reload` applies a changed value of a key with a star (★) while the gateway runs; any other needs a restart.\n"
        .to_owned();
    for (section, described) in schema["properties"].as_object().into_iter().flatten() {
        let about = described["description"].as_str().unwrap_or_default();
        text += &format!(
            "\n## {section}\n\n{}\n\n| key | default | variable | meaning |\n|---|---|---|---|\n",
            one_line(about)
        );
        for (key, property) in described["properties"].as_object().into_iter().flatten() {
            let path = format!("{section}.{key}");
            let default = tree::get(&defaults, &path).cloned().unwrap_or_default();
            text += &format!(
                "| `{key}`{} | `{default}` | `{}` | {} |\n",
                if super::can_change(&path) { " ★" } else { "" },
                tree::variable(&path),
                one_line(property["description"].as_str().unwrap_or_default())
            );
        }
    }
    text
}

/// Returns text as it can stand in a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_schema_says() {
        let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let page = page();
        if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            page,
            "GOLDEN=write writes docs/configuration.md"
        );
    }

    #[test]
    fn the_schema_takes_what_the_program_takes() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let shipped: Value = serde_saphyr::from_str(include_str!("../../config.yaml")).unwrap();
        for (document, is_valid) in [
            (shipped, true),
            (json!({}), true),
            (
                json!({"jobs": {"timeout_seconds": "2h", "retention_max_bytes": "10GiB"}, "server": {"port": 1}}),
                true,
            ),
            (
                json!({"agent": {"prices": {"m": {"input": 1, "output": 2.5}}, "mcp_servers": {"x": {"url": "http://h"}}}}),
                true,
            ),
            (json!({"server": {"prot": 1}}), false),
            (json!({"jobs": {"timeout_seconds": "soon"}}), false),
            (json!({"nonsense": 1}), false),
        ] {
            assert_eq!(schema.is_valid(&document), is_valid, "{document}");
        }
    }
}
