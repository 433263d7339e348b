"""The output folder: schema, parts, resume index, run records, lock, compaction and summary."""
