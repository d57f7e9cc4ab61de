"""What is interrupted, how its outcome is judged after a restart, and how it is tried again."""

import contextlib

from nova_lite import exception
from nova_lite.objects import task_states, vm_states


class Operation:
    """One operation on one instance: `prepare` and `run` in the process that dies, the rest in the one after it."""

    # States in which a restart may leave the instance: the operation is done, or undone.
    outcomes: tuple = (vm_states.ACTIVE,)
    # Hosts where an error in it may leave the instance in error, and why; not even then is anything lost.
    errs: dict[str, str] = {}
    # The hosts that have a part in it, in the order in which their services start.
    hosts: tuple = ("a",)

    def prepare(self, site, images):
        """Return what `run` and the others get: a dict with the instance's uuid."""
        return {"uuid": site.boot(images["cached"]), **images}

    def run(self, site, things):
        raise NotImplementedError

    def is_settled(self, state):
        """Tell whether the state after a restart (vm_state, task_state, host) is one that the operation may leave."""
        return state[0] in self.outcomes and state[1] is None

    def again(self, site, things, vm_state):
        """Do the operation once more where it was undone, and bring the instance to where it can be deleted."""
        self.run(site, things)


    def mend(self, site, things):
        """Do what an operator does about an instance that is in error; return its state then."""
        return site.reboot(things["uuid"])

    def anew(self, site, things):
        """Do the whole of it with an instance that was mended, and is active."""
        self.again(site, things, vm_states.ACTIVE)


class Spawn(Operation):
    """A build whose image is cached. A build that broke off is not repeated on its own: its row is in ERROR."""

    outcomes = (vm_states.ACTIVE, vm_states.ERROR)

    def create(self, site, things):
        """Return the new row of an instance that is to be built."""
        return site.create(things["cached"])

    def is_settled(self, state):
        """A build that no host had taken up yet is the scheduler's, as it was."""
        return super().is_settled(state) or (state[0], state[2]) == (vm_states.BUILDING, None)

    def prepare(self, site, images):
        return {"uuid": self.create(site, images).uuid, **images}

    def run(self, site, things):
        site.build(things["uuid"])

    def again(self, site, things, vm_state):
        site.delete(things["uuid"])
        fresh = site.build(self.create(site, things).uuid)
        assert site.state(fresh)[0] == vm_states.ACTIVE, f"a new build ended {site.state(fresh)}"
        site.delete(fresh)


class ColdSpawn(Spawn):
    """A build whose image the host has not seen."""

    def create(self, site, things):
        return site.create(things["new"])


class SpawnWithDisks(Spawn):
    """A build with swap, an ephemeral disk, and a config drive."""

    def create(self, site, things):
        return site.create(things["cached"], site.flavor(ephemeral_gb=1, swap=16), config_drive="True")


class SpawnFromVolume(Spawn):
    """A build whose root disk is a volume."""

    def create(self, site, things):
        return site.create_from_volume(things["volume"])


class Rescue(Operation):
    outcomes = (vm_states.ACTIVE, vm_states.RESCUED)

    def run(self, site, things):
        site.rescue(things["uuid"], things["cached"])

    def again(self, site, things, vm_state):
        if vm_state != vm_states.RESCUED:
            site.rescue(things["uuid"], things["cached"])
        site.unrescue(things["uuid"])


class Unrescue(Rescue):
    def prepare(self, site, images):
        things = super().prepare(site, images)
        site.rescue(things["uuid"], things["cached"])
        return things

    def run(self, site, things):
        site.unrescue(things["uuid"])


class Snapshot(Operation):
    def run(self, site, things):
        site.snapshot(things["uuid"])


class Attach(Operation):
    def run(self, site, things):
        site.attach(things["uuid"], things["volume"])

    def again(self, site, things, vm_state):
        """Half an attachment is taken off like a whole one; where nothing was recorded there is none."""
        with contextlib.suppress(exception.VolumeNotFound):
            site.detach(things["uuid"], things["volume"])
        site.attach(things["uuid"], things["volume"])
        site.detach(things["uuid"], things["volume"])


class Detach(Attach):
    def prepare(self, site, images):
        things = super().prepare(site, images)
        site.attach(things["uuid"], things["volume"])
        return things

    def run(self, site, things):
        site.detach(things["uuid"], things["volume"])


class Destroy(Operation):
    outcomes = ("deleted",)

    def run(self, site, things):
        site.delete(things["uuid"])

    def again(self, site, things, vm_state):
        """Deleted is deleted."""


class Ordered(Operation):
    """An action that needs no more than its message, in the task that asks for it."""

    def __init__(self, method, task_state, becomes=vm_states.ACTIVE, after=None, undone=True, **arguments):
        self._method, self._task_state, self._arguments = method, task_state, arguments
        self._becomes, self._after = becomes, after
        before = after._becomes if after else vm_states.ACTIVE
        self.outcomes = (becomes, before) if undone else (becomes,)

    def prepare(self, site, images):
        things = super().prepare(site, images)
        if self._after:
            self._after.run(site, things)
        return things

    def run(self, site, things):
        site.order(things["uuid"], self._method, self._task_state, **self._arguments)

    def again(self, site, things, vm_state):
        if self._becomes == vm_state != vm_states.ACTIVE:
            return
        if self._after and vm_state == self._becomes:
            self._after.run(site, things)
        self.run(site, things)
        state = site.state(things["uuid"])
        assert state[:2] == (self._becomes, None), f"at the second time it ended {state}"


class Rebuild(Operation):
    """The same instance anew, from an image the host has not seen."""

    outcomes = (vm_states.ACTIVE, vm_states.ERROR)

    def run(self, site, things):
        site.rebuild(things["uuid"], things["cached"], things["new"])

    def again(self, site, things, vm_state):
        self.run(site, things)
        state = site.state(things["uuid"])
        assert state[0] == vm_states.ACTIVE, f"a second rebuild ended {state}"


class AttachInterface(Operation):
    def run(self, site, things):
        site.attach_interface(things["uuid"])

    def again(self, site, things, vm_state):
        """What the guest has and what the network service has given it is the same; either can be changed again."""
        assert len(site.interfaces(things["uuid"])) in (1, 2)
        site.attach_interface(things["uuid"])
        for interface in site.interfaces(things["uuid"])[1:]:
            site.detach_interface(things["uuid"], interface)
        assert len(site.interfaces(things["uuid"])) == 1


class DetachInterface(AttachInterface):
    def prepare(self, site, images):
        things = super().prepare(site, images)
        site.attach_interface(things["uuid"])
        return things

    def run(self, site, things):
        site.detach_interface(things["uuid"], site.interfaces(things["uuid"])[-1])


class Resize(Operation):
    hosts = ("a", "b")
    outcomes = (vm_states.ACTIVE, vm_states.RESIZED)
    errs = {"b": "it failed where it went, and its disks are still where it came from: users decide whether to go back"}

    def run(self, site, things):
        site.resize(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state != vm_states.RESIZED:
            state = site.resize(things["uuid"])
            assert state[0] == vm_states.RESIZED, f"a second resize ended {state}"
        site.confirm(things["uuid"])

    def mend(self, site, things):
        """A resize that failed where it went is taken back; elsewhere the guest is where it is said to be."""
        migration = site.migration_of(things["uuid"])
        if migration.status == "error" and migration.dest_compute == site.state(things["uuid"])[2]:
            return site.take_back(things["uuid"])
        return super().mend(site, things)


class ConfirmResize(Resize):
    errs = {"b": "the guest runs; what the way back would have needed is there until its host can be cleared"}

    def prepare(self, site, images):
        things = super().prepare(site, images)
        site.resize(things["uuid"])
        return things

    def run(self, site, things):
        site.confirm(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state == vm_states.RESIZED:
            site.confirm(things["uuid"])

    def anew(self, site, things):
        state = site.resize(things["uuid"], 3)
        assert state[0] == vm_states.RESIZED, f"a second resize ended {state}"
        self.run(site, things)
        state = site.settle(things["uuid"])
        assert state[0] == vm_states.ACTIVE, f"the end of a second resize ended {state}"


class RevertResize(ConfirmResize):
    errs = {"b": "its guest could not be removed, and goes when it is reverted again",
            "a": "it is back, and could not be brought up: a reboot does that"}

    def run(self, site, things):
        site.revert(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state == vm_states.RESIZED:
            site.revert(things["uuid"])


class LiveMigrate(Operation):
    hosts = ("b", "a")
    errs = {"b": "it has arrived, and could not be taken over; a reboot shows that it works"}

    def run(self, site, things):
        site.live_migrate(things["uuid"])

    def again(self, site, things, vm_state):
        before = site.state(things["uuid"])[2]
        state = site.live_migrate(things["uuid"])
        assert state[0] == vm_states.ACTIVE and state[2] != before, f"a second migration ended {state}"


PAUSE = Ordered("pause_instance", task_states.PAUSING, vm_states.PAUSED)
SUSPEND = Ordered("suspend_instance", task_states.SUSPENDING, vm_states.SUSPENDED)
STOP = Ordered("stop_instance", task_states.POWERING_OFF, vm_states.STOPPED, undone=False)
PUT_AWAY = Ordered("soft_delete_instance", task_states.SOFT_DELETING, vm_states.SOFT_DELETED, undone=False)

OPERATIONS = {
    "spawn": Spawn(), "cold spawn": ColdSpawn(), "spawn with disks": SpawnWithDisks(),
    "spawn from volume": SpawnFromVolume(), "rescue": Rescue(), "unrescue": Unrescue(), "snapshot": Snapshot(),
    "attach": Attach(), "detach": Detach(), "destroy": Destroy(), "resize": Resize(),
    "confirm resize": ConfirmResize(), "revert resize": RevertResize(), "live migration": LiveMigrate(),
    "rebuild": Rebuild(), "attach interface": AttachInterface(), "detach interface": DetachInterface(),
    "suspend": SUSPEND, "resume": Ordered("resume_instance", task_states.RESUMING, after=SUSPEND),
    "pause": PAUSE, "unpause": Ordered("unpause_instance", task_states.UNPAUSING, after=PAUSE, undone=False),
    "stop": STOP, "start": Ordered("start_instance", task_states.POWERING_ON, after=STOP, undone=False),
    "soft reboot": Ordered("reboot_instance", task_states.REBOOTING, undone=False, reboot_type="SOFT"),
    "hard reboot": Ordered("reboot_instance", task_states.REBOOTING_HARD, undone=False, reboot_type="HARD"),
    "soft delete": PUT_AWAY,
    "restore": Ordered("restore_instance", task_states.RESTORING, after=PUT_AWAY, undone=False),
}
