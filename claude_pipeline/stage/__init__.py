"""The journey's stages, each one function that Dagster's ops and the command line share.

prepare      dataset -> snapshot -> plan -> chunks      (load, check, render, plan_file, question, decide, mix, cut, reserve)
submit       doubts settled, rounds and levels cut, chunks sent as batches      (cascade, unasked)
collect      ended batches -> result rows and merged rows
finalize     a settled snapshot -> one row per record
publish      everything merged -> the warehouse

forecast     what it would cost and how long it would take, before anything is spent      (draft, past, sample, estimate)
pilot        a sample asked for real
quality      answers against their labels, by model
retry, cancel, backup, prune      a person's word
told         what the API says of models and limits
desk         what each of them needs at hand
"""
