"""The registry: which members there are, in which state, and who changed that, when and why."""
