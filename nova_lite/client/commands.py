"""Which command is found where: words on the command line -> class, imported when it is asked for."""

import importlib.metadata
from collections.abc import Mapping

from cliff.commandmanager import CommandManager

CLIENT = {
    "server create": "server:CreateServer",
    "server list": "server:ListServers",
    "server show": "server:ShowServer",
    "server delete": "server:DeleteServer",
    "server reboot": "server:RebootServer",
    "server pause": "server:PauseServer",
    "server unpause": "server:UnpauseServer",
    "server suspend": "server:SuspendServer",
    "server resume": "server:ResumeServer",
    "server stop": "server:StopServer",
    "server start": "server:StartServer",
    "flavor list": "flavor:ListFlavors",
    "flavor show": "flavor:ShowFlavor",
    "flavor create": "flavor:CreateFlavor",
    "flavor delete": "flavor:DeleteFlavor",
    "network list": "network:ListNetworks",
    "network show": "network:ShowNetwork",
    "network create": "network:CreateNetwork",
    "network delete": "network:DeleteNetwork",
    "image list": "image:ListImages",
    "image show": "image:ShowImage",
    "image create": "image:CreateImage",
    "image delete": "image:DeleteImage",
    "keypair list": "keypair:ListKeypairs",
    "keypair show": "keypair:ShowKeypair",
    "keypair create": "keypair:CreateKeypair",
    "keypair delete": "keypair:DeleteKeypair",
    "cell list": "cell:ListCells",
    "cell show": "cell:ShowCell",
    "cell create": "neighbours:CreateCell",
    "cell update": "neighbours:UpdateCell",
    "cell delete": "neighbours:DeleteCell",
    "cell enable": "neighbours:EnableCell",
    "cell disable": "neighbours:DisableCell",
    "cell drain": "neighbours:DrainCell",
    "cell tree": "cell_tree:CellTree",
    "cell ping": "cell_tree:PingCell",
    "cell why": "cell_tree:WhyCell",
    "cell sync": "neighbours:SyncCells",
    "service list": "host:ListServices",
    "host list": "host:ListHosts",
}
DEMO = {"demo": "demo:Demo", "simulate": "simulate:Simulate"}
MANAGE = {
    "db sync": "manage.database:Sync",
    "db version": "manage.database:Version",
    "cell create": "manage.cell:CreateCell",
    "cell list": "manage.cell:ListCells",
    "cell delete": "manage.cell:DeleteCell",
    "flavor create": "manage.flavor:CreateFlavor",
    "flavor list": "manage.flavor:ListFlavors",
    "flavor set": "manage.flavor:SetFlavor",
    "flavor delete": "manage.flavor:DeleteFlavor",
}


class CommandTable(CommandManager):
    """cliff's command manager over a table instead of entry points of installed distributions."""

    def __init__(self, table: Mapping[str, str]):
        super().__init__()
        for name, place in table.items():
            self.commands[name] = importlib.metadata.EntryPoint(name, f"nova_lite.client.{place}", "nova_lite.client")
