"""What models cost on this machine, beside what other libraries' cost in the same run.

Its modules are imported by name, so that reading what was measured before imports no torch.
"""
