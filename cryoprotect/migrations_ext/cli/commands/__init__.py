"""One file per command: its options, one call into the API, one print."""
