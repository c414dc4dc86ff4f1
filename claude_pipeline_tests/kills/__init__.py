"""Real processes killed by SIGKILL at named points and at random instants, until everything is merged all the same.

    python -m claude_pipeline_tests.kills --kills 500 --seed 1

A *pool* is one home with a few small workloads, two to four processes that all drive all of them, and
a simulator with faults. Processes are killed and started again; then comes a calm in which all must
finish, and the simulator's invoice, the ledger and the warehouse are compared.
"""
