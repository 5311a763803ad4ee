"""Pictures of an embedding: world maps as PNG, and one interactive page."""
