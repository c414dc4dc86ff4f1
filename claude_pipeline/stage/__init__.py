"""The journey's stages, each one function that Dagster's ops and the command line share.

prepare      dataset -> snapshot -> plan -> chunks
submit       doubts settled, rounds cut, chunks sent as batches
collect      ended batches -> result rows and merged rows
finalize     a settled snapshot -> one row per record
publish      everything merged -> the warehouse
"""
