"""Where units of work run: in processes of this machine, as jobs of Slurm, or as tasks of a Ray cluster."""
