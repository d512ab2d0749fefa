"""Programs that drive original clients of Cloud ML Engine, each in an environment of its own.

They import nothing of Graft. Only endpoint and credentials are replaced, and waits between polls are shorter.
Each prints one line of JSON at its end, which `test_original_clients` reads.
"""
