"""How well a SuperNet ranks networks, compared with their costs."""
