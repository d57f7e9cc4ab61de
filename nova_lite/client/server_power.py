"""nova-lite server: on, off, asleep, gone."""

from nova_lite.client.server import ServerAction
from nova_lite.objects import vm_states


class DeleteServer(ServerAction):
    """Delete servers."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--soft", action="store_true", help="Keep them for reclaim_instance_interval, switched off.")
        how.add_argument("--force", action="store_true", help="Also those that were deleted softly, at once.")
        return parser

    def act(self, instance, parsed_args):
        api = self.api.compute_api
        delete = api.soft_delete if parsed_args.soft else api.force_delete if parsed_args.force else api.delete
        delete(self.context, instance)

    def wait_for(self, follower, before):
        follower.until_gone()


class RestoreServer(ServerAction):
    """Take softly deleted servers back."""

    def act(self, instance, parsed_args):
        self.api.compute_api.restore(self.context, instance)


class RebootServer(ServerAction):
    """Reboot servers, asking the guest unless --hard is given."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--hard", action="store_true", help="As by the power button.")
        return parser

    def act(self, instance, parsed_args):
        self.api.compute_api.reboot(self.context, instance, "HARD" if parsed_args.hard else "SOFT")


class PauseServer(ServerAction):
    """Pause servers; their memory stays on the host."""

    goal = vm_states.PAUSED

    def act(self, instance, parsed_args):
        self.api.compute_api.pause(self.context, instance)


class UnpauseServer(ServerAction):
    """Let paused servers go on."""

    def act(self, instance, parsed_args):
        self.api.compute_api.unpause(self.context, instance)


class SuspendServer(ServerAction):
    """Suspend servers; their memory goes to disk."""

    goal = vm_states.SUSPENDED

    def act(self, instance, parsed_args):
        self.api.compute_api.suspend(self.context, instance)


class ResumeServer(ServerAction):
    """Let suspended servers go on."""

    def act(self, instance, parsed_args):
        self.api.compute_api.resume(self.context, instance)


class StopServer(ServerAction):
    """Shut servers down."""

    goal = vm_states.STOPPED

    def act(self, instance, parsed_args):
        self.api.compute_api.stop(self.context, instance)


class StartServer(ServerAction):
    """Start stopped servers."""

    def act(self, instance, parsed_args):
        self.api.compute_api.start(self.context, instance)
