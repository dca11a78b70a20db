"""Wire messages of the agent, generated from the .proto files beside them."""
