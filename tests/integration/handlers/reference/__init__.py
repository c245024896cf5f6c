"""Handler files as users of tasker-core have them. The test that runs them replaces the name of the library and nothing else."""
