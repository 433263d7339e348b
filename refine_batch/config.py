"""What decides a result. Everything here is hashed into `config_hash`; how and where a run is executed is not.

Each option has its default's reason in its description, which is also its help on the command line.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Raised whenever a change of code changes results: rows of an older version are refined again.
ALGORITHM_VERSION = 14


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _between(start: float, end: float, share: float) -> float:
    """From one to the other at a constant ratio."""
    return start * (end / start) ** share


class LossWeights(_Options):
    """Weights of the six losses of REFINE (Leung et al., CVPRW 2022), and of what stands beside them."""

    silhouette: float = Field(10.0, ge=0)
    displacement: float = Field(100.0, ge=0)
    laplacian: float = Field(10.0, ge=0)
    normal_consistency: float = Field(10.0, ge=0)
    vertex_symmetry: float = Field(20.0, ge=0)
    image_symmetry: float = Field(80.0, ge=0)
    whole: float = Field(
        0.01,
        ge=0,
        description="Of the squared amounts by which the shape changes as a whole, counted in what is usual; nothing "
        "of this counts as displacement. Part of the displacement loss.",
    )
    size: float = Field(
        0.3,
        ge=0,
        description="Of the squared growth as a whole, in tenths, where a camera's distance may be wrong. Part of the "
        "displacement loss.",
    )
    shift: float = Field(
        0.45,
        ge=0,
        description="Of the squared shift as a whole, in what is usual, where a camera's distance may be wrong. Part "
        "of the displacement loss.",
    )
    camera: float = Field(
        0.03,
        ge=0,
        description="Of the squared change of a camera that may be wrong, in standard deviations. At 0.01 exact "
        "cameras went astray by 3° and more; at 0.1 shapes changed as a whole for what was wrong with the camera.",
    )
    depth: float = Field(0.0, ge=0, description="Of the disagreement with a depth hint.")
    normals: float = Field(0.0, ge=0, description="Of the disagreement with hints of normals.")


class PaperOptions(_Options):
    """Options of `--method refine`, the paper's network trained per instance."""

    learning_rate: float = Field(
        2e-4, gt=0, description="Adam's, constant. The paper's 7e-5 has not quite arrived after 400 steps."
    )
    weights: LossWeights = LossWeights()
    sigma: float = Field(
        1e-4, gt=0, description="Softness of the silhouette at the start, squared NDC; PyTorch3D's default."
    )
    sigma_end: float = Field(
        3e-5,
        gt=0,
        description="Softness at the end. A soft silhouette is wider than the mesh, by more the softer it is, so a "
        "mesh fitted to the mask through it comes out too thin; the paper stays at 1e-4.",
    )
    sigma_settled: float = Field(
        0.75, ge=0, lt=1, description="Share of the steps after which the softness is final and iterates are compared."
    )
    symmetry_views: int = Field(1, ge=1, description="Azimuths of the image-symmetry loss; the authors use 1.")
    symmetry_bias: float = Field(0.0005, gt=0, description="b: what low symmetry confidence costs.")
    camera_learning_rate: float = Field(
        0.01, gt=0, description="Of cameras that may be wrong, radians and logarithm of the distance, a step of Adam's."
    )
    zero_start: bool = Field(
        True,
        description="Start the displacement head at zero, so that step 0 is the coarse mesh; its default start moves "
        "every vertex by about 0.04 first.",
    )
    relative_smoothness: bool = Field(
        True,
        description="Hold the Laplacian and the bends between faces to the coarse mesh's own. The paper's losses pull "
        "every mesh towards a smooth and shrunken one: on synthetic objects, whose edges are sharp, that made shapes "
        "worse while their silhouettes came to agree.",
    )
    depth: float = Field(
        1.0,
        ge=0,
        description="Weight of the displacement along the viewing ray within the displacement loss, besides the "
        "paper's term: no silhouette asks for it, so it is an error more often than not. The paper has none.",
    )
    by_area: bool = Field(
        True,
        description="Count displacements half by the surface that a vertex stands for; the paper counts vertices. The "
        "same for even meshes; on artists' meshes the few vertices of large triangles went astray.",
    )
    whole_learning_rate: float = Field(
        0.03,
        ge=0,
        description="Of the changes of the shape as a whole (offset, stretch, shear, turn, shift, sharpness), in usual "
        "amounts, at the start; 0: none, as in the paper. With them ten real shapes came to 0.57 of the coarse ones' "
        "Chamfer-L2 instead of 0.73.",
    )
    whole_learning_rate_decay: float = Field(0.1, gt=0, le=1, description="Share of it that is left at the end.")
    whole_depth: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of such a change along the viewing ray that is made: a silhouette tells least about it.",
    )
    log_space: bool = Field(
        True,
        description="Take the silhouette's cross-entropy in log space, exact where a float32 silhouette saturates.",
    )

    def sigma_at(self, progress: float) -> tuple[float, bool]:
        """Softness after this share of the steps, and whether it is final: losses compare only at one softness."""
        if self.sigma_end == self.sigma or progress >= self.sigma_settled:
            return self.sigma_end, True
        return _between(self.sigma, self.sigma_end, progress / self.sigma_settled), False

    def settled_at(self, progress: float) -> bool:
        """Whether iterates compare from here on: one softness."""
        return self.sigma_at(progress)[1]

    def exact(self) -> PaperOptions:
        """These options without any departure from the paper."""
        departures = {"zero_start": False, "log_space": False, "relative_smoothness": False, "by_area": False}
        whole = {"whole_learning_rate": 0.0, "weights": self.weights.model_copy(update={"size": 0.0, "shift": 0.0})}
        settings = {"learning_rate": 7e-5, "sigma_end": self.sigma, "depth": 0.0}
        return self.model_copy(update=settings | departures | whole)


class LargeStepsWeights(_Options):
    """Weights of the losses of `large-steps`, for an object whose largest extent is 1."""

    silhouette: float = Field(1000.0, ge=0, description="Of the squared error of the soft silhouette.")
    displacement: float = Field(3000.0, ge=0, description="The strongest prior on synthetic data: move little.")
    along_ray: float = Field(
        3000.0,
        ge=0,
        description="Of the displacement along the viewing ray, besides: no silhouette asks for it, so it is an error "
        "more often than not. Part of the displacement loss.",
    )
    whole: float = Field(
        0.15,
        ge=0,
        description="Of the squared amounts by which the shape changes as a whole, counted in what is usual; nothing "
        "of this counts as displacement. Part of the displacement loss.",
    )
    size: float = Field(
        1.0,
        ge=0,
        description="Of the squared growth as a whole, in tenths, where a camera's distance may be wrong: an object "
        "that is nearer looks the same. Part of the displacement loss.",
    )
    shift: float = Field(
        2.25,
        ge=0,
        description="Of the squared shift as a whole, in what is usual, where a camera's distance may be wrong. "
        "Without it a bracket was moved aside for what was wrong with its camera. Part of the displacement loss.",
    )
    laplacian: float = Field(
        100.0, ge=0, description="Of the change of the Laplacian. Ten times as much held real shapes back."
    )
    normal_consistency: float = Field(0.0, ge=0, description="Off: it flattens, and made shapes worse.")
    vertex_symmetry: float = Field(
        10_000.0, ge=0, description="At 3000 shapes came out a little worse, at 30 000 more."
    )
    image_symmetry: float = Field(
        0.0, ge=0, description="Off: beside the vertices' symmetry it changed little and costs a third of the time."
    )
    camera: float = Field(
        1.0, ge=0, description="Of the squared change of a camera that may be wrong, in standard deviations."
    )
    depth: float = Field(
        20_000.0,
        ge=0,
        description="Of the squared disagreement with a depth hint, in squared extents; where there is one.",
    )
    normals: float = Field(
        300.0, ge=0, description="Of 1 − the cosine of the disagreement with hints of normals; where there are any."
    )


class LargeStepsOptions(_Options):
    """Options of `--method large-steps`, which moves the vertices themselves."""

    learning_rate: float = Field(0.03, gt=0, description="Of the smooth coordinates, in extents, at the start.")
    learning_rate_decay: float = Field(0.1, gt=0, le=1, description="Share of it that is left at the end.")
    reach: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.3, 0.15, 0.05, 0.02),
        min_length=1,
        description="How far a vertex takes its neighbours along, as shares of the largest extent, in stages of equal "
        "length: the whole is put right before its details, whatever the mesh's resolution.",
    )
    whole_learning_rate: float = Field(
        0.15,
        ge=0,
        description="Of the changes of the shape as a whole (offset, stretch, shear, turn, shift, sharpness), in usual "
        "amounts, at the start; 0: none. With them shapes came out a tenth better on synthetic objects.",
    )
    whole_depth: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of such a change along the viewing ray that is made: a silhouette tells least about it. At "
        "1 a third more of the synthetic objects came out worse than they went in.",
    )
    camera_learning_rate: float = Field(
        0.03, gt=0, description="Of cameras that may be wrong, radians and logarithm of the distance, at the start."
    )
    whole_share: float = Field(
        0.2, ge=0, lt=1, description="Share of the steps, at the start, in which only the whole shape changes."
    )
    weights: LargeStepsWeights = LargeStepsWeights()
    coarse_share: float = Field(0.6, ge=0, le=1, description="Share of the steps at the low resolution.")
    coarse_size: float = Field(0.5, gt=0, le=1, description="The low resolution, as a share of the image size.")
    sigma_start: float = Field(1e-3, gt=0, description="Softness of the silhouette at the start, squared NDC.")
    sigma_middle: float = Field(2e-5, gt=0, description="Softness at the end of the low resolution.")
    sigma_end: float = Field(
        3e-6,
        gt=0,
        description="Softness at the end. At 2e-5 true shapes, refined, still came out 0.003 extents too thin.",
    )
    sigma_settled: float = Field(0.88, ge=0, lt=1, description="Share of the steps after which the softness is final.")
    symmetry_azimuths: int = Field(1, ge=1, description="Azimuths of the symmetry views, which are taken in rotation.")
    symmetry_bias: float = Field(
        1e-3,
        gt=0,
        description="b: the squared distance of a vertex to its mirror image, in squared extents, from which it is "
        "trusted less.",
    )

    def sigma_at(self, progress: float) -> float:
        """Softness after this share of the steps: from start to middle at the low resolution, then on to the end."""
        share = self.coarse_share
        if progress < share:
            return _between(self.sigma_start, self.sigma_middle, progress / share)
        rest = self.sigma_settled - share
        return _between(self.sigma_middle, self.sigma_end, min(1.0, (progress - share) / rest) if rest > 0 else 1.0)

    def settled_at(self, progress: float) -> bool:
        """Whether losses compare from here on: one softness, the full image size, details free to move."""
        last_stage = self.whole_share + (1.0 - self.whole_share) * (1.0 - 1.0 / len(self.reach))
        return progress >= max(self.sigma_settled, self.coarse_share, last_stage)


class PreparationOptions(_Options):
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


class PictureOptions(_Options):
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


class RefineConfig(_Options):
    """Everything that a refined mesh depends on besides the instance itself."""

    method: str = Field(
        "refine",
        description="refine (the paper's network), large-steps (the vertices themselves, in a small part of the time), "
        "or module:function for one of yours. refine, because it is the method that was published.",
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
        description="Turn off every departure of the method refine from the paper (see docs/algorithm.md). Cameras "
        "then stand still, and the symmetry plane is z's where nobody names another.",
    )
    picture: PictureOptions = PictureOptions()
    preparation: PreparationOptions = PreparationOptions()
    paper: PaperOptions = PaperOptions()
    large_steps: LargeStepsOptions = LargeStepsOptions()

    @property
    def camera_spread(self) -> tuple[float, float]:
        """`camera_error` as numbers: degrees and share of the distance. The paper's cameras are exact."""
        if self.paper_exact:
            return 0.0, 0.0
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
