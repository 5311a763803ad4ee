"""raytrain: pretrain location encoders against several unpaired modalities with Ray."""
