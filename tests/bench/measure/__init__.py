"""What the commands of this directory measure with: processes, a daemon with its database and workers, the figures, the tables."""
