"""Anomaly detection: tables of inliers and anomalies, real ones and synthetic ones."""
