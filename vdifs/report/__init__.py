"""What each command tells, and the files of `.vdifs` with it: values, and their JSON. No terminal."""
