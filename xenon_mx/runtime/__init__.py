"""Services for all other packages: MXNet, OpenCV, devices, threads, files, streams."""
