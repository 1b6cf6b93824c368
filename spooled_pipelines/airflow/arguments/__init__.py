"""The arguments of operators and sensors: templates, values that are not rendered, and choices."""
