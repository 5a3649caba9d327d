"""Reports and captions become items: `itemize(record, recipe, backend)`."""

from data_pipelines.itemize.engine import itemize

__all__ = ("itemize",)
