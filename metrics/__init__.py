"""Every equation of the benchmark, once: pure, differentiable tensor functions on torch and scipy alone.

Inside this package a field is a tensor (B, 3, D, H, W) in voxels, components in axis order (z, y, x), and
`spacing_mm` is in axis order (z, y, x) too. What is differentiable serves as a loss term and as a table column.
"""
