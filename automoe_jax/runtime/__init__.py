"""Interface to the machine: processes, devices and their mesh, files."""
