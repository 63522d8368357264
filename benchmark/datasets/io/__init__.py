"""Readers and writers of single files: images, series, label maps, centroids, landmarks, documents."""
