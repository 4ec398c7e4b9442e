"""A local MCP server, over stdio."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("town")


@server.tool()
def population(city: str) -> int:
    """How many people live in a city."""
    return {"Rome": 3}.get(city, 0)


@server.tool()
def fail(city: str) -> int:
    """Raise."""
    raise ValueError(f"no {city}")


if __name__ == "__main__":
    server.run("stdio")
