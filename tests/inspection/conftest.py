from inspection_shards import make

__all__ = ["make"]
