"""The users stage: a Faust app that counts outcomes by user.

Only this package imports Faust and aiokafka, and only `app.py` and `transport.py` in it do. They
come with the extra `outcomes`.
"""
