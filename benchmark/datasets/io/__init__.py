"""Files of scans, read and checked one at a time: images, series, labels, centroids, landmarks."""
