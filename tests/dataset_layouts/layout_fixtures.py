"""Tiny datasets in their real file formats, drawn by formulas of their own: nothing here uses the code under test.

Each picture is what the dataset's documentation says its camera sees, filled triangle by triangle with Pillow.
"""

from __future__ import annotations

import io
import json
import math

import numpy as np
import trimesh
from PIL import Image, ImageDraw

from refine_batch.io.storage import Storage

SAMPLES = 4  # per pixel and side, when a mask is drawn


def lopsided(seed: int = 0) -> trimesh.Trimesh:
    """A shape without symmetry, about 1 wide, off its own origin: any wrong sign, swap or shift changes its outline."""
    random = np.random.default_rng(seed)
    parts = [
        ((0.7, 0.25, 0.4), (0.0, 0.0, 0.0)),
        ((0.15, 0.6, 0.3), (0.25, 0.3, 0.05)),
        ((0.3, 0.2, 0.2), (-0.3, -0.15, 0.3)),
        ((0.2, 0.2, 0.35), (0.1, 0.05, -0.35)),
    ]
    boxes = []
    for extents, centre in parts:
        box = trimesh.creation.box(extents=np.array(extents) * random.uniform(0.8, 1.2, 3))
        boxes.append(box.apply_translation(centre))
    return trimesh.util.concatenate(boxes)


def rotation(seed: int, most: float = 180.0) -> np.ndarray:
    """(3, 3) a turn of up to `most` degrees about a random axis."""
    random = np.random.default_rng(seed)
    angle = math.radians(random.uniform(0.3, 1.0) * most)
    return trimesh.transformations.rotation_matrix(angle, random.normal(size=3))[:3, :3]


def drawn(pixels: np.ndarray, faces: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) bool: triangles with corners at these pixel coordinates (x right, y down from the top left corner)."""
    canvas = Image.new("L", (width * SAMPLES, height * SAMPLES))
    pen = ImageDraw.Draw(canvas)
    for triangle in pixels[faces] * SAMPLES - 0.5:
        pen.polygon([tuple(corner) for corner in triangle], fill=255)
    shares = np.asarray(canvas, np.float64).reshape(height, SAMPLES, width, SAMPLES).mean(axis=(1, 3))
    return shares >= 127.5


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, {"png": "PNG", "jpg": "JPEG"}[suffix])
    return stream.getvalue()


def photograph(mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the object light on a gradient."""
    height, width = mask.shape
    ground = np.linspace(0, 120, width)[None, :, None] * np.ones((height, 1, 3))
    return np.where(mask[:, :, None], 220, ground).astype(np.uint8)


def rgba(mask: np.ndarray) -> np.ndarray:
    return np.dstack([photograph(mask), mask.astype(np.uint8) * 255])


def mesh_bytes(vertices: np.ndarray, faces: np.ndarray, file_type: str = "obj") -> bytes:
    data = trimesh.Trimesh(vertices, faces, process=False).export(file_type=file_type)
    return data.encode() if isinstance(data, str) else data


# --- Pix3D ----------------------------------------------------------------------------------------------------------


def pix3d_item(
    number: int, *, category: str = "chair", width: int = 640, height: int = 480, aside: float = 0.25
) -> dict:
    """An entry of pix3d.json as the download has them, its object `aside` (a tangent) of the optical axis."""
    random = np.random.default_rng([7, number])
    depth = random.uniform(1.8, 2.5)
    direction = random.uniform(0, 2 * math.pi)
    shift = aside * depth * np.array([math.cos(direction), math.sin(direction)])
    shift[int(width > height)] *= 0.5  # the picture is narrower that way
    return {
        "img": f"img/{category}/{number:04d}.jpg",
        "category": category,
        "img_size": [width, height],
        "2d_keypoints": [[[12.5, 40.25]]],
        "mask": f"mask/{category}/{number:04d}.png",
        "img_source": ("ikea", "internet", "self-taken")[number % 3],
        "model": f"model/{category}/THING_{number}/model.obj",
        "model_raw": None,
        "model_source": "ikea",
        "3d_keypoints": f"model/{category}/THING_{number}/3d_keypoints.txt",
        "voxel": f"model/{category}/THING_{number}/voxel.mat",
        "rot_mat": rotation(number).tolist(),
        "trans_mat": [*shift.tolist(), depth],
        "focal_length": 20.0,
        "cam_position": [0.1, 0.2, -2.0],
        "inplane_rotation": 0.05,
        "truncated": False,
        "occluded": False,
        "slightly_occluded": False,
        "bbox": [10, 10, 100, 100],
    }


def pix3d_mask(item: dict, model: trimesh.Trimesh) -> np.ndarray:
    """As documented: f = focal_length · width / 32; x left, y up, z forward after rot_mat and trans_mat."""
    width, height = item["img_size"]
    focal = item["focal_length"] * width / 32
    seen = np.array(item["rot_mat"]) @ model.vertices.T + np.array(item["trans_mat"])[:, None]
    pixels = np.stack([width / 2 - focal * seen[0] / seen[2], height / 2 - focal * seen[1] / seen[2]], axis=1)
    return drawn(pixels, model.faces, width, height)


def write_pix3d(source: Storage, items: list[dict]) -> list[trimesh.Trimesh]:
    """pix3d.json with everything that it names; the models."""
    models = []
    for number, item in enumerate(items):
        model = lopsided(number)
        mask = pix3d_mask(item, model)
        source.write(item["img"], encoded(photograph(mask), "jpg"))
        source.write(item["mask"], encoded(mask.astype(np.uint8) * 255, "png"))
        source.write(item["model"], mesh_bytes(model.vertices, model.faces))
        models.append(model)
    source.write("pix3d.json", json.dumps(items).encode())
    return models


# --- Choy et al. ----------------------------------------------------------------------------------------------------


def euler(x: float, y: float, z: float) -> np.ndarray:
    """Blender's XYZ Euler angles, degrees: about x first."""
    a, b, c = np.radians([x, y, z])
    about_x = [[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]]
    about_y = [[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]]
    about_z = [[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]]
    return np.array(about_z) @ about_y @ about_x


def r2n2_mask(line: list[float], model: trimesh.Trimesh, size: int = 137) -> np.ndarray:
    """Their Blender scene: z up, the camera on +x of an empty that is turned by (−yaw, −altitude, −azimuth), looking
    along −x with z up, at 1.75 times the distance, 35 mm on 32 mm."""
    azimuth, altitude, yaw, distance, _ = line
    x, y, z = model.vertices.T
    imported = np.stack([x, -z, y])
    seen = euler(-yaw, -altitude, -azimuth).T @ imported
    depth, focal = distance * 1.75 - seen[0], 35 / 32 * size
    pixels = np.stack([size / 2 + focal * seen[1] / depth, size / 2 - focal * seen[2] / depth], axis=1)
    return drawn(pixels, model.faces, size, size)


def write_r2n2(source: Storage, models: dict[str, trimesh.Trimesh], views: list[list[float]], size: int = 137) -> None:
    """ShapeNetRendering; `models` by SYNSET/MODEL."""
    for name, model in models.items():
        folder = f"ShapeNetRendering/{name}/rendering"
        for view, line in enumerate(views):
            source.write(f"{folder}/{view:02d}.png", encoded(rgba(r2n2_mask(line, model, size)), "png"))
        text = "".join(" ".join(map(str, line)) + "\n" for line in views)
        source.write(f"{folder}/rendering_metadata.txt", text.encode())
        source.write(f"{folder}/renderings.txt", "".join(f"{v:02d}.png\n" for v in range(len(views))).encode())


# --- Folders --------------------------------------------------------------------------------------------------------


def look_at_mask(camera: dict, model: trimesh.Trimesh, size: int = 200) -> np.ndarray:
    """The look-at camera of this project's documentation, written out."""
    values = {"fov": 60.0, "roll": 0.0, "offset_x": 0.0, "offset_y": 0.0} | camera
    a, e, r = (math.radians(values[n]) for n in ("azimuth", "elevation", "roll"))
    position = values["distance"] * np.array([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])
    forward = -position / np.linalg.norm(position)
    left = np.cross([0, 1, 0], forward)
    left /= np.linalg.norm(left)
    up = np.cross(forward, left)
    left, up = left * math.cos(r) + up * math.sin(r), -left * math.sin(r) + up * math.cos(r)
    seen = (model.vertices - position) @ np.stack([left, up, forward], axis=1)
    ndc = seen[:, :2] / (seen[:, 2:] * math.tan(math.radians(values["fov"]) / 2))
    ndc += [values["offset_x"], values["offset_y"]]
    return drawn((1 - ndc) * size / 2, model.faces, size, size)


def opencv_mask(camera: dict, model: trimesh.Trimesh) -> np.ndarray:
    """x right, y down, z forward; K in pixels from the top left corner."""
    width, height = camera["size"]
    seen = np.array(camera["R"]) @ model.vertices.T + np.array(camera["t"])[:, None]
    pixels = np.array(camera["K"]) @ seen
    return drawn((pixels[:2] / pixels[2]).T, model.faces, width, height)
