"""Container images: the engine, the builders, what is asked of an image, and the order in which it is done."""
