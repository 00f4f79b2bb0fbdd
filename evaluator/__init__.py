"""The evaluator: the store, the windows, the status, the metrics and the command line."""
