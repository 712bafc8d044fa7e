"""Putting Polyvisor into a cluster and taking it out: the chart as manifests, applied in order, removed in order.

The chart (``chart/``, also reached as ``deploy/chart``) is the one place where the deployment is written; Helm renders
it, and so does :mod:`.render`, for those who have no Helm.
"""
