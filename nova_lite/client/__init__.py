"""The commands of nova-lite and nova-manage, one module per noun.

Commands work on a connection (``nova_lite.client.connection``): the API library of one cell. Nothing heavy is imported
before a command needs it.
"""
