"""Cars at a kerb or in a studio: their world, look and views."""
