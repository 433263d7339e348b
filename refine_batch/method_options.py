"""Options of the methods that come with the package. All of them decide results: they are a part of `RefineConfig`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Values that are checked once and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _between(start: float, end: float, share: float) -> float:
    """From one to the other at a constant ratio."""
    return start * (end / start) ** share


class LossWeights(Options):
    """Weights of the six losses of REFINE (Leung et al., CVPRW 2022), and of what stands beside them."""

    silhouette: float = Field(10.0, ge=0)
    displacement: float = Field(100.0, ge=0)
    laplacian: float = Field(10.0, ge=0)
    normal_consistency: float = Field(10.0, ge=0)
    vertex_symmetry: float = Field(20.0, ge=0)
    image_symmetry: float = Field(
        0.0,
        ge=0,
        description="The paper's is 80. Off: what the mask asks of one side it asks of the other, so that shapes grew "
        "and their cameras went too far.",
    )
    whole: float = Field(
        0.01,
        ge=0,
        description="Of the squared amounts by which the shape changes as a whole, counted in what is usual; nothing "
        "of this counts as displacement. Part of the displacement loss.",
    )
    size: float = Field(
        0.1,
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


class PaperOptions(Options):
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
        "amounts, at the start; 0: none, as in the paper. With them ten real shapes came to 0.60 of the coarse ones' "
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
        weights = self.weights.model_copy(update={"size": 0.0, "shift": 0.0, "image_symmetry": 80.0})
        settings = {"learning_rate": 7e-5, "sigma_end": self.sigma, "depth": 0.0, "whole_learning_rate": 0.0}
        return self.model_copy(update=settings | departures | {"weights": weights})


class LargeStepsWeights(Options):
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


class LargeStepsOptions(Options):
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
