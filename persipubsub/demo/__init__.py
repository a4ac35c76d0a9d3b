"""The main job on real input: stream files between processes, kill one of them, and prove that nothing is lost."""
