"""A trained model for other programs: as ONNX, as a program of torch, and described as STAC items."""
