"""The page of `posenet-jax explore`, on which inversions are watched while they run."""
