"""What a run needs from its machine: processes, devices and their mesh, files."""
