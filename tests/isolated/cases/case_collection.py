"""A module that cannot be collected."""

raise ValueError("while it is imported")
