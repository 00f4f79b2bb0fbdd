"""The command line: where the three packages are composed."""
