"""What every folder uses: errors, atomic files, text, the console. Imports nothing else of the project."""
