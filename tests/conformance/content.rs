//! The texts, images and resources of the suite.

use rmcp::model::{ContentBlock, ResourceContents};

pub const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
pub const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

pub fn text(text: impl Into<String>) -> Vec<ContentBlock> {
    vec![ContentBlock::text(text.into())]
}

pub fn image() -> ContentBlock {
    ContentBlock::image(PNG, "image/png")
}

pub fn resource(uri: &str, kind: &str, text: &str) -> ContentBlock {
    ContentBlock::resource(ResourceContents::text(text, uri).with_mime_type(kind))
}

/// What a resource of the suite holds.
pub fn read(uri: &str) -> Option<ResourceContents> {
    if let Some(id) = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
        let text = serde_json::json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
        return Some(ResourceContents::text(text.to_string(), uri).with_mime_type("application/json"));
    }
    match uri {
        "test://static-text" => Some(
            ResourceContents::text("This is the content of the static text resource.", uri)
                .with_mime_type("text/plain"),
        ),
        "test://static-binary" => Some(ResourceContents::blob(PNG, uri).with_mime_type("image/png")),
        "test://watched-resource" => {
            Some(ResourceContents::text("A resource that may change.", uri).with_mime_type("text/plain"))
        }
        _ => None,
    }
}
