"""Evidence that may be looked at at any time: pure functions over counts, numpy only."""
