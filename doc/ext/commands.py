"""Sphinx directive: the help of every command of a program.

.. commands:: nova_lite.client.app.NovaManage
"""

import importlib

from docutils import nodes
from docutils.parsers.rst import Directive


class Commands(Directive):
    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].rpartition(".")
        program = getattr(importlib.import_module(module), name)()
        return [self._section(program, name) for name in sorted(program.TABLE)]

    def _section(self, program, name):
        command, _, _ = program.command_manager.find_command(name.split())
        title = f"{program.NAME} {name}"
        section = nodes.section(ids=[nodes.make_id(title)])
        section += nodes.title(text=title)
        text = command(program, None).get_parser(title).format_help()
        # The formatters' own arguments are the same everywhere and told once, in the page.
        section += nodes.literal_block(text=text.partition("\noutput formatters:")[0].rstrip(), language="none")
        return section


def setup(app):
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
