"""Images: what they are (manifests), where they are kept (the store), and what a program changed in one (layers)."""
