from refine_batch.job.garbage import seldom

# Of a driver, its actors and their processes: before any of them imports torch.
seldom()
