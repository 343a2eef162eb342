"""What every other package stands on: MXNet, OpenCV, threads, files, streams."""
