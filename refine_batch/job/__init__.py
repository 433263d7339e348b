"""A run as a distributed job: its driver, its actors and their processes."""

from refine_batch.job.garbage import seldom

# Here, for what Ray and the server of processes execute first of ours is the import of a class by its name, and that
# imports torch. The library does without this package, and leaves its caller's settings alone.
seldom()
