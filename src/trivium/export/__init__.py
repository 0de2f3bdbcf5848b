"""Trained models for other programs: scikit-learn, ONNX, NumPy."""
