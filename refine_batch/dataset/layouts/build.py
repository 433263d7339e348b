"""From a dataset on disk to a manifest: every entry becomes a row or is counted among those left out."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from refine_batch.dataset.columns import MANIFEST_SCHEMA, VIEWS
from refine_batch.dataset.layouts.colmap import ColmapLayout
from refine_batch.dataset.layouts.entry import Layout, LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.folder import FolderLayout
from refine_batch.dataset.layouts.huggingface import HuggingfaceLayout
from refine_batch.dataset.layouts.options import LayoutName, LayoutOptions
from refine_batch.dataset.layouts.pix3d import Pix3dLayout
from refine_batch.dataset.layouts.posed import PosedLayout
from refine_batch.dataset.layouts.r2n2 import R2n2Layout
from refine_batch.dataset.layouts.transforms import TransformsLayout
from refine_batch.dataset.layouts.turntable import TurntableLayout
from refine_batch.dataset.layouts.webdataset import WebdatasetLayout
from refine_batch.dataset.layouts.writer import LeftOutWriter, ManifestWriter, whole_file
from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import redact

logger = logging.getLogger(__name__)

LAYOUTS: dict[LayoutName, Callable[[LayoutOptions], Layout]] = {
    "folder": FolderLayout,
    "pix3d": Pix3dLayout,
    "r2n2": R2n2Layout,
    "transforms": TransformsLayout,
    "colmap": ColmapLayout,
    "turntable": TurntableLayout,
    "posed": PosedLayout,
    "webdataset": WebdatasetLayout,
    "huggingface": HuggingfaceLayout,
}
ERROR_COLUMNS = ("camera_error_degrees", "camera_error_distance")
_THREADS = 8
_AHEAD = 8 * _THREADS
_EXAMPLES = 3


@dataclass
class Built:
    """What came of building a manifest.

    `left_out` counts by reason, `examples` shows the first few of each; the whole list is the CSV at `left_out_uri`.
    Rows counted under `ground_truth_missing` are in the manifest, without a ground truth.
    """

    manifest: str
    left_out_uri: str
    rows: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    left_out: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[LeftOut]] = field(default_factory=dict)


def build_manifest(
    layout: LayoutName, options: LayoutOptions, *, progress: Callable[[Built], None] | None = None
) -> Built:
    """Write the manifest of a dataset; `progress` is called after each entry.

    Raises
    ------
    UsageError
        The source has another layout, an option does not go with it, or not one row came out: nothing was put at
        `options.out`.
    """
    options.check(layout)
    dataset = LAYOUTS[layout](options)
    built = Built(options.manifest, f"{options.manifest.rpartition('.')[0]}.left_out.csv")
    parquet = options.manifest.lower().endswith(".parquet")
    extra = [*dataset.extra_fields]
    if options.camera_error is not None:
        extra += [MANIFEST_SCHEMA.field(n) for n in ERROR_COLUMNS if n not in {field.name for field in extra}]
    with (
        whole_file(options.manifest, options.s3_endpoint) as sink,
        whole_file(built.left_out_uri, options.s3_endpoint) as list_sink,
        ManifestWriter(sink, options.manifest_folder, extra, parquet=parquet) as writer,
        LeftOutWriter(list_sink) as listed,
    ):
        ids: set[bytes] = set()
        for found in _items(dataset):
            item = found if isinstance(found, LeftOut) else _unique(found, ids)
            if isinstance(item, LeftOut):
                _count(built, item, listed)
            else:
                writer.add(item if options.camera_error is None else _trusted(item, options.camera_error))
                built.rows += 1
                built.categories[item.get("category") or ""] += 1
            if progress is not None:
                progress(built)
        if not built.rows:
            raise UsageError(_nothing(layout, options, built))
    return built


def _items(dataset: Layout) -> Iterator[Row | LeftOut]:
    """Rows and what was left out, in the order of the entries; a bounded number of entries is worked on at once."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="layout") as pool:
        waiting: deque[Future | list] = deque()
        try:
            for entry in dataset.entries():
                waiting.append([entry] if isinstance(entry, LeftOut) else pool.submit(_rows, dataset, entry))
                if len(waiting) > _AHEAD:
                    yield from _done(waiting.popleft())
            while waiting:
                yield from _done(waiting.popleft())
        finally:
            for pending in waiting:
                if isinstance(pending, Future):
                    pending.cancel()


def _done(result: Future | list) -> Iterable[Row | LeftOut]:
    return result.result() if isinstance(result, Future) else result


def _rows(dataset: Layout, entry: Any) -> list[Row | LeftOut]:
    try:
        return dataset.rows(entry)
    except LeftOutError as error:
        return [LeftOut(entry.name, error.reason, redact(error.message))]
    except (RefineBatchError, OSError):
        raise  # the manifest's own store fails: no entry is to blame
    except Exception as error:
        logger.exception("%r could not be read", entry.name)
        return [LeftOut(entry.name, Reason.ENTRY_BROKEN, redact(f"{type(error).__name__}: {error}"))]


def _unique(row: Row, ids: set[bytes]) -> Row | LeftOut:
    """The row, unless another has its id; ids are kept as 8 bytes each."""
    digest = blake2b(row["instance_id"].encode("utf-8", "surrogatepass"), digest_size=8).digest()
    if digest in ids:
        return LeftOut(row["instance_id"], Reason.AMBIGUOUS, "another entry has this instance_id already")
    ids.add(digest)
    return row


def _trusted(row: Row, error: tuple[float, float]) -> Row:
    """The row and its views, each with how far its camera may be off, unless it says so itself."""
    told = dict(zip(ERROR_COLUMNS, error, strict=True))

    def whole(picture: Mapping[str, Any]) -> dict[str, Any]:
        picture = dict(picture)
        return picture if any(picture.get(name) is not None for name in ERROR_COLUMNS) else picture | told

    views = row.get(VIEWS)
    return whole(row) | ({VIEWS: [whole(view) for view in views]} if isinstance(views, list) else {})


def _count(built: Built, item: LeftOut, listed: LeftOutWriter) -> None:
    built.left_out[item.reason] += 1
    if item.reason is Reason.FILTERED:
        return
    listed.add(item)
    shown = built.examples.setdefault(item.reason, [])
    if len(shown) < _EXAMPLES:
        shown.append(item)


def _nothing(layout: str, options: LayoutOptions, built: Built) -> str:
    where = redact(options.source)
    if not built.left_out:
        return f"{where} holds nothing that --layout {layout} knows; nothing was written"
    counts = ", ".join(f"{number} {reason.value}" for reason, number in built.left_out.most_common())
    examples = [f"; for example {e[0].name}: {e[0].message}" for e in built.examples.values()][:2]
    return f"{where} gives not one row ({counts}){''.join(examples)}; nothing was written"
