"""The async face: where async meets the engine. A class for each kind of thing that can be asked of the broker."""
