"""Training: from labelled tweets to a model folder.

The heavy imports (torch, transformers, mlflow, onnx) live in this package and
nowhere else. Nothing here knows of Azure: the cloud calls the same command line.
"""
