"""Programs for those who develop Pantry, and the demo."""
