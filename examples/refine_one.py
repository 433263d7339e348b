"""Refine one mesh from one image whose alpha channel is the mask:

python examples/refine_one.py coarse.obj image.png AZIMUTH ELEVATION DISTANCE refined.obj
"""

import sys

import numpy as np
import trimesh
from PIL import Image

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine

if len(sys.argv) != 7:
    sys.exit(__doc__)
mesh_file, image_file, azimuth, elevation, distance, refined_file = sys.argv[1:]
coarse = trimesh.load(mesh_file, force="mesh", process=False)
pixels = np.asarray(Image.open(image_file).convert("RGBA"))
camera = Camera(float(azimuth), float(elevation), float(distance))
mesh = Mesh(coarse.vertices.astype(np.float32), coarse.faces.astype(np.int32))
instance = Instance("one", mesh, pixels[..., :3], pixels[..., 3] > 0, camera)
[result] = refine([instance], RefineConfig(method="large-steps"))
if result.mesh is None:
    sys.exit(result.error_message)
print(f"{result.status}: 2D IoU {result.before.iou_2d:.3f} → {result.after.iou_2d:.3f}")
trimesh.Trimesh(result.mesh.vertices, result.mesh.faces, process=False).export(refined_file)
