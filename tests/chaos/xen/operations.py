"""What is interrupted, how its outcome is judged after a restart, and how it is tried again."""

import contextlib

from nova_lite import exception
from nova_lite.objects import vm_states


class Operation:
    """One operation on one instance: `prepare` and `run` in the process that dies, the rest in the one after it."""

    # States in which a restart may leave the instance: the operation is done, or undone.
    outcomes: tuple = (vm_states.ACTIVE,)
    # The host that is up when the other one recovers.
    stays_up = "a"

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


class Spawn(Operation):
    """A build whose image is cached. A build that broke off is not repeated on its own: its row is in ERROR."""

    outcomes = (vm_states.ACTIVE, vm_states.ERROR)
    image = "cached"

    def is_settled(self, state):
        """A build that no host had taken up yet is the scheduler's, as it was."""
        return super().is_settled(state) or state == (vm_states.BUILDING, None, None)

    def prepare(self, site, images):
        return {"uuid": site.create(images[self.image]).uuid, **images}

    def run(self, site, things):
        site.hosts["a"].run_instance(site.context, instance=site.load(things["uuid"]).to_legacy_dict())

    def again(self, site, things, vm_state):
        fresh = site.boot(things[self.image])
        assert site.state(fresh)[0] == vm_states.ACTIVE, f"a new build ended {site.state(fresh)}"
        site.delete(fresh)


class ColdSpawn(Spawn):
    """A build whose image the host has not seen."""

    image = "new"


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


class Resize(Operation):
    outcomes = (vm_states.ACTIVE, vm_states.RESIZED)

    def run(self, site, things):
        site.resize(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state != vm_states.RESIZED:
            state = site.resize(things["uuid"])
            assert state[0] == vm_states.RESIZED, f"a second resize ended {state}"
        site.confirm(things["uuid"])


class ConfirmResize(Resize):
    def prepare(self, site, images):
        things = super().prepare(site, images)
        site.resize(things["uuid"])
        return things

    def run(self, site, things):
        site.confirm(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state == vm_states.RESIZED:
            site.confirm(things["uuid"])


class RevertResize(ConfirmResize):
    def run(self, site, things):
        site.revert(things["uuid"])

    def again(self, site, things, vm_state):
        if vm_state == vm_states.RESIZED:
            site.revert(things["uuid"])


class LiveMigrate(Operation):
    stays_up = "b"

    def run(self, site, things):
        site.live_migrate(things["uuid"])

    def again(self, site, things, vm_state):
        before = site.state(things["uuid"])[2]
        state = site.live_migrate(things["uuid"])
        assert state[0] == vm_states.ACTIVE and state[2] != before, f"a second migration ended {state}"


OPERATIONS = {"spawn": Spawn(), "cold spawn": ColdSpawn(), "rescue": Rescue(), "unrescue": Unrescue(),
              "snapshot": Snapshot(), "attach": Attach(), "detach": Detach(), "destroy": Destroy(),
              "resize": Resize(), "confirm resize": ConfirmResize(), "revert resize": RevertResize(),
              "live migration": LiveMigrate()}
