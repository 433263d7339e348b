"""How and where a run is executed. Nothing here changes a result, so nothing here is part of `config_hash`.

Each option's description is its help on the command line and says why the default is what it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class RunOptions(BaseModel):
    """Options of `refine-batch run` besides `RefineConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    batch_size: Count | Literal["auto"] = Field(
        "auto",
        description="Instances refined together by one actor, and the rows of one result file. auto: up to 64 on a "
        "GPU, up to 4 on a CPU, fewer where little is left to do, so that all actors have a share of it.",
    )
    actors: Count | Literal["auto"] = Field(
        "auto",
        description="Refining processes. auto: one per GPU (or share of one), or one per --cpus-per-actor CPUs, "
        "following the cluster as it grows and shrinks, and asking for more than there is room for where an autoscaler "
        "may bring it.",
    )
    gpus_per_actor: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="GPUs that each actor asks for; fractions share one. By default 1 where the cluster has GPUs.",
    )
    cpus_per_actor: Positive | None = Field(
        None,
        description="CPUs that each actor asks for: its torch threads and, from 2 on, its processes that load, prepare "
        "and measure beside the device. By default 1, as many instances side by side as there are cores do more than "
        "many cores on one, and with GPUs a node's CPUs shared among them.",
    )
    memory_per_actor: Positive | None = Field(
        None, description="Memory that each actor asks for, GB. By default none is reserved."
    )
    limit: Count | None = Field(None, description="Only the first N rows of the manifest. By default all.")
    retry_failed: bool = Field(
        False,
        description="Also do the rows again that failed in an earlier run. Off: they would fail again until their "
        "input or the options change, and then they are done anyway, as are those whose failure may pass.",
    )
    transient_attempts: Count = Field(
        3,
        description="Runs that try a row whose failure may pass (a store that is away, a node short of memory), this "
        "one included. 3: an outage is forgotten by the next run, and what is no outage is left be.",
    )
    force: bool = Field(
        False, description="Do every row again, whatever the output already holds. Off: nothing is done twice."
    )
    s3_endpoint: str | None = Field(
        None, description="URL of an S3-compatible store, such as http://127.0.0.1:9000. By default AWS."
    )
    address: str | None = Field(
        None,
        description="Ray cluster: auto, HOST:PORT, or local for a private one. By default RAY_ADDRESS, which a "
        "submitted job has, else the cluster that `ray start` made this machine a node of, else a private one.",
    )
    max_failed_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest share of failed rows with which the run still counts as a success. A few broken inputs "
        "are usual in a large dataset; more than a tenth point to something else.",
    )
    instance_timeout: Positive = Field(
        900.0,
        description="Seconds that one instance may take; a batch gets that for each of its instances, on a GPU, which "
        "refines them together, for every 16. Generous, because it exists to end what hangs: a large mesh on one CPU "
        "core takes minutes.",
    )
    start_timeout: Positive = Field(
        600.0, description="Seconds to wait for a first actor; a cluster that adds a GPU node needs minutes."
    )
    storage_patience: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        600.0,
        description="Seconds to wait for a store that does not answer anybody, instead of failing its rows. 600: what "
        "a restart or a failover takes.",
    )
    grace_period: Positive | None = Field(
        None,
        description="Seconds to finish the batches in hand after SIGTERM or Ctrl-C. By default 30, and in a submitted "
        "Ray job what RAY_JOB_STOP_WAIT_TIME_S leaves.",
    )
    part_size: Positive = Field(
        32.0, description="Largest result file, MB: what a reader comfortably holds and a retry cheaply repeats."
    )
    loaders: Count = Field(
        8, description="Threads per actor that load the next batch during this one, so that no GPU waits for storage."
    )
    max_pixels: Count = Field(
        1 << 26,
        description="Pixels of the largest image that is read; a larger one fails its row. Reading takes 4 bytes a "
        "pixel while it lasts, in each of the loaders: 8192 × 8192 is above what any camera tells a working image.",
    )
    progress_interval: Positive = Field(
        5.0,
        description="Seconds between progress lines where there is no terminal: often enough to follow, seldom enough "
        "for a log.",
    )
