"""What `python -m raytrain.preview` looks at: shards, what is wrong with them, and a page."""
