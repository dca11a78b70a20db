"""Wire messages of Envoy's secret discovery service, generated from `sds.proto`.

Evolution: field numbers are Envoy's and never ours to choose; add a field of theirs under their number.
"""
