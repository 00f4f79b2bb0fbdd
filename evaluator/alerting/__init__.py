"""From CloudEvents on `alerts` to people: what is firing, how it is said, and webhooks that lose nothing."""
