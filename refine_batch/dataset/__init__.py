"""The dataset: its manifest, and what decides whether a row is new."""
