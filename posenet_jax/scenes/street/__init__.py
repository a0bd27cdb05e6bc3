"""Streets: their world, how they look, and what cameras see of them."""
