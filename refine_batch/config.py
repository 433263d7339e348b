"""What decides a result. Everything here is hashed into `config_hash`; how and where a run is executed is not.

Each option has its default's reason in its description, which is also its help on the command line.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from refine_batch.method_options import LargeStepsOptions, Options, PaperOptions

# Raised whenever a change of code changes results: rows of an older version are refined again.
ALGORITHM_VERSION = 16


class PreparationOptions(Options):
    """What is done to a coarse mesh before it is refined; each step stands in the result's column `preparation`."""

    working_faces: Annotated[int, Field(ge=100)] = Field(
        10_000,
        description="Meshes with more faces are refined as one of about this many, and what moved is carried back to "
        "every vertex of theirs. No silhouette of a working size tells more, and a step costs less.",
        json_schema_extra={"option": "--working-faces"},
    )
    max_faces: int = Field(
        5_000_000,
        ge=4,
        description="Meshes with more faces fail: a limit of memory, about 1 kB a face.",
        json_schema_extra={"option": "--max-faces"},
    )

    drop_pieces: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Remove floating pieces with less than this share of the surface; the largest always stays. 0: "
        "none, what a method made is kept unless asked otherwise.",
        json_schema_extra={"option": "--drop-pieces"},
    )


def _camera_error(value: Any) -> str:
    """`5,0.1`, `5` (with the default share) or `0` (exact), in one spelling."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 1:
        numbers.append(0.1 if numbers[0] else 0.0)
    if len(numbers) != 2 or not all(0.0 <= number < math.inf for number in numbers):
        raise ValueError("it should be DEGREES,SHARE, both at least 0, such as 5,0.1; or 0 for exact cameras")
    return f"{numbers[0]:g},{numbers[1]:g}"


CameraErrorText = Annotated[str, BeforeValidator(_camera_error)]


class PictureOptions(Options):
    """How pictures are read."""

    mask_from: Literal["auto", "mask", "alpha", "background"] = Field(
        "auto",
        description="Where the object's mask comes from: the mask file, the image's alpha channel, or what is not of "
        "the colour of the image's border (a white ground, say; holes are found too). auto: the mask file where there "
        "is one, else alpha.",
        json_schema_extra={"option": "--mask-from"},
    )
    mask_threshold: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of full scale above which a soft mask or alpha is the object. A mask of two values is known "
        "as one, whatever they are. At one half the edges of a blurred mask are sharpened where they are.",
        json_schema_extra={"option": "--mask-threshold"},
    )


class RefineConfig(Options):
    """Everything that a refined mesh depends on besides the instance itself."""

    method: str = Field(
        "large-steps",
        description="large-steps (the vertices themselves), refine (the paper's network, some thirty times as long), "
        "or module:function for one of yours. large-steps, because on real shapes it gains more, and harms no more.",
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Optimisation steps per instance. By default what the method was tuned for: 400 with refine, 160 "
        "with large-steps.",
    )
    patience: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Stop an instance once its loss has not fallen by 0.1 % for this many steps, counted only where "
        "the softness and the image size are final. By default never: every instance takes the same steps.",
    )
    image_size: int = Field(
        224, ge=16, le=2048, description="Side of the square working image, pixels; the paper's 224."
    )
    guard: bool = Field(
        True,
        description="Return the coarse mesh, with status kept and the reason, where the refined one fails checks that "
        "need no ground truth: refinement must never make a mesh worse.",
    )
    guard_risk: float = Field(
        0.25,
        ge=0,
        le=1,
        description="The estimated probability of a worse shape above which the guard returns the coarse mesh; from "
        "two fifths of it on it goes only a part of the way. 1: only its other checks count. At 0.25 a third as many "
        "shapes with wrong cameras come back worse, and as good in the mean.",
    )
    camera_error: CameraErrorText = Field(
        "5,0.1",
        description="DEGREES,SHARE: one standard deviation of what given cameras may be off, of their direction and of "
        "their distance; rows can say their own. 0: they are exact. The default is what pose estimators reach.",
    )
    symmetry_axis: Literal["x", "y", "z", "none", "auto"] = Field(
        "auto",
        description="Of instances that do not say theirs: the normal of the symmetry plane, none, or auto, which finds "
        "a plane in the coarse mesh and believes it as far as the mesh bears it out. The paper assumes z, which "
        "did harm to a third of real shapes.",
    )
    seed: int = Field(
        0,
        ge=0,
        description="Seeds every random choice, together with the instance id. Fixed, so that on a CPU a repeat gives "
        "the same; a GPU adds in another order each time.",
    )
    figures: Literal["all", "fast", "none"] = Field(
        "all",
        description="Which figures are measured before and after: all, fast (all but the earth mover's distance, which "
        "takes half of the time) or none but the 2D IoU. It changes no mesh, but what a row holds: one that lacks "
        "figures asked for later is refined again.",
    )
    figure_samples: int = Field(
        10_000, ge=100, description="Points per surface for Chamfer and F-score; the authors' protocol."
    )
    renderer: str = Field(
        "warp",
        description="warp (fused kernels), torch (plain, very slow) or pytorch3d where that is installed. warp is the "
        "fastest.",
    )
    tf32: bool = Field(
        False,
        description="On a GPU, let matrix products and convolutions round to TF32 (10 bits of mantissa). Off: full "
        "float32, for convolutions too, where torch's own default is TF32.",
    )
    encoder_weights: str = Field(
        "random",
        description="random, imagenet, or the URI of a torchvision-format ResNet-18 state dict; random: no download.",
    )
    paper_exact: bool = Field(
        False,
        description="With --method refine: turn off every departure from the paper (see docs/algorithm.md). Cameras "
        "then stand still, and the symmetry plane is z's where nobody names another.",
    )
    picture: PictureOptions = PictureOptions()
    preparation: PreparationOptions = PreparationOptions()
    paper: PaperOptions = PaperOptions()
    large_steps: LargeStepsOptions = LargeStepsOptions()

    @field_validator("paper_exact")
    @classmethod
    def _paper_is_refines(cls, wanted: bool, given: ValidationInfo) -> bool:
        if wanted and given.data.get("method") == "large-steps":
            raise ValueError("it is for the paper's method; give --method refine as well")
        return wanted

    @property
    def camera_spread(self) -> tuple[float, float]:
        """`camera_error` as numbers: degrees and share of the distance."""
        degrees, share = self.camera_error.split(",")
        return float(degrees), float(share)

    @property
    def usual_axis(self) -> str:
        """`symmetry_axis`, in the place of `auto` the paper's where its settings are asked for."""
        return "z" if self.paper_exact and self.symmetry_axis == "auto" else self.symmetry_axis

    def config_hash(self) -> str:
        """16 hex digits over every option and the algorithm's version."""
        text = json.dumps([ALGORITHM_VERSION, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
