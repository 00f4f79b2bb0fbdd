"""The bottom layer: topics, records, batches, settings, embedded parts and the Faust worker."""
