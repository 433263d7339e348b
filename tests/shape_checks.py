"""The type checker that checks the core's annotations, shapes included, while the tests run."""

from beartype import BeartypeConf, beartype

# Warp compiles the source of its kernels, which decorators would change: their modules stay out.
CHECKED = (
    "refine_batch.cameras.camera",
    "refine_batch.losses",
    "refine_batch.mesh.batch",
    "refine_batch.mesh.topology",
    "refine_batch.networks.encoder",
    "refine_batch.networks.refiner",
    "refine_batch.networks.stacked",
    "refine_batch.render.hard",
    "refine_batch.render.pixels",
    "refine_batch.render.silhouette",
    "refine_batch.render.torch_silhouette",
)

# As PEP 484 has it, an int is welcome where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
