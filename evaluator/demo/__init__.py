"""The demo: a year of real flights from New York, replayed through the real pipeline."""
