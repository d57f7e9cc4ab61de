"""nova-status: is this installation ready for the release that is installed?"""

import logging
from collections.abc import Iterator

from oslo_db import exception as db_exception

from nova_lite import conf as configuration
from nova_lite import exception
from nova_lite.client import base
from nova_lite.client.errors import one_line
from nova_lite.client.manage.base import OnDatabase

OK, WARNING, FAILED = "ok", "warning", "failed"
# As other programs of this kind have it: 0 all is well, 1 something to look at, 2 something to repair first.
STATUSES = {OK: 0, WARNING: 1, FAILED: 2}
XENAPI = "XenAPIDriver"
# Of the driver's checks of a host, those that an upgrade can change.
OF_THE_HOST = ("transport", "version", "plugins")

Finding = tuple[str, str]


class UpgradeCheck(OnDatabase, base.Listing):
    """Check schema, configuration, and on compute hosts XenServer's version, dom0 plugins and TLS. Changes nothing.

    Exit status 0 when all is well, 1 with warnings, 2 when something has to be repaired before services are started.
    """

    def run(self, parsed_args) -> int:
        self._worst = OK
        logging.disable(logging.WARNING)  # what is wrong is in the table
        try:
            super().run(parsed_args)
        finally:
            logging.disable(logging.NOTSET)
        return STATUSES[self._worst]

    def take_action(self, parsed_args):
        try:
            rows = list(self._rows())
        except configuration.ConfigError as error:
            rows = [("configuration", FAILED, one_line(error))]
        self._worst = max((result for _, result, _ in rows), key=lambda result: STATUSES[result])
        return ("Check", "Result", "Detail"), rows

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for name, check in (("configuration", self._configuration), ("schema", self._schema),
                            ("services", self._services)):
            for result, detail in check():
                yield name, result, detail
        if (self.conf.compute_driver or "").endswith(XENAPI):
            yield from self._host()

    def _configuration(self) -> Iterator[Finding]:
        """Mistakes end the reading of it; what is left are names that no option has."""
        unknown = configuration.unknown_options(self.conf)
        for name in unknown:
            yield WARNING, f"unknown option {name}"
        if not unknown:
            yield OK, "every option is known"

    def _schema(self) -> Iterator[Finding]:
        from nova_lite.db import revision

        try:
            stored = self.db.version()
        except db_exception.DBError as error:
            yield FAILED, f"the database cannot be asked: {one_line(error)}"
            return
        if stored == revision.CURRENT:
            yield OK, f"version {stored}"
        elif stored is None:
            yield FAILED, "the database is empty: nova-manage db sync"
        elif stored < revision.CURRENT:
            yield FAILED, f"version {stored}, this release needs {revision.CURRENT}: nova-manage db sync"
        else:
            yield FAILED, f"version {stored} is of a newer release than this one, which knows {revision.CURRENT}"

    def _services(self) -> Iterator[Finding]:
        """Services of another release may go on for a while, but somebody should know."""
        from nova_lite import servicegroup

        if not self._schema_is_usable():
            return
        services = self.db.service_get_all(self.context)
        group = servicegroup.API(self.context.services.with_(clock=self.db.store.clock))
        down = sorted(f"{row['binary']} on {row['host']}" for row in services if not group.service_is_up(row))
        for name in down:
            yield WARNING, f"{name} is down"
        if not down:
            yield OK, f"{len(services)} up"

    def _schema_is_usable(self) -> bool:
        try:
            return self.db.schema_is_current()
        except db_exception.DBError:
            return False

    def _host(self) -> Iterator[tuple[str, str, str]]:
        from nova_lite.virt.xenapi import acceptance
        from nova_lite.virt.xenapi.session import XenAPISession
        from nova_lite.virt.xenapi.transport import TlsPolicy

        options = self.conf.xenserver
        if not options.connection_url:
            yield "host", FAILED, "[xenserver] connection_url is not set"
            return
        try:
            session = XenAPISession(
                options.connection_url, options.connection_username, options.connection_password,
                timeout=options.login_timeout, concurrent=2, tls=TlsPolicy.of(options),
                call_timeout=options.call_timeout, task_timeout=options.task_timeout, plugin_wire=options.plugin_wire)
        except exception.NovaException as error:
            yield "host", FAILED, one_line(error)
            return
        try:
            for finding in acceptance.Acceptance(session, self.conf).run():
                if finding.check in OF_THE_HOST:
                    yield f"host {finding.check}", finding.result, finding.detail
        finally:
            session.close()
