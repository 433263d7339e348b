"""Mean silhouette IoU over a ring of views."""

from __future__ import annotations

import math

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh

AZIMUTHS = tuple(45.0 * i for i in range(8))
ELEVATIONS = (-45.0, 0.0, 45.0)
FOV = 60.0
# Fixed, whatever the working image, so that runs with different image sizes can be compared.
IMAGE_SIZE = 128
# The bounding sphere then fills this share of the image's half-width.
_FILL = 0.95


def ring_of_views(mesh: Mesh) -> list[Camera]:
    """24 cameras that see all of `mesh` and of what is not larger: 8 azimuths × elevations −45°, 0°, 45°, fov 60°.

    The distance is that at which the sphere about the origin through the farthest vertex just fits, in the image. It is
    taken from the ground truth alone, so that before and after are measured with the same ruler; what a worse mesh has
    beyond the image is lost to it.
    """
    radius = float(np.linalg.norm(mesh.vertices.astype(np.float64), axis=1).max())
    distance = radius / math.sin(math.atan(_FILL * math.tan(math.radians(FOV / 2))))
    return [Camera(azimuth, elevation, distance, FOV) for elevation in ELEVATIONS for azimuth in AZIMUTHS]
