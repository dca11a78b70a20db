"""How is it reached? Every listening socket, the CLI, the console, the agent."""
