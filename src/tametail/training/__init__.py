"""The training room: recipe (what a run is), material (what it reads), trainer (the loop), run, checkpoint."""
