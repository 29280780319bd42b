//! Where MCP is on its port.

/// The path of the endpoint.
pub const PATH: &str = "/mcp";
